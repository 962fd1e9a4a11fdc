# What the scripts share. To be sourced; sets ROOT, TARGET_DIR and PATH.
# shellcheck shell=bash

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# Absolute, since cargo is called from the root and the scripts from anywhere.
TARGET_DIR=$(realpath -m -- "${CARGO_TARGET_DIR:-$ROOT/target}")
export CARGO_TARGET_DIR=$TARGET_DIR
# Where cargo and Debian put programs; neither has to be in a user's PATH.
# A service may have no home.
export PATH="$ROOT/.tools/bin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

WASM_TARGET=wasm32-wasip1
WASM_FILE=$TARGET_DIR/$WASM_TARGET/release/rust-wasm-lunatic-nats.wasm

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' green='' yellow='' plain=''
fi
# Not every script that sources this uses every colour.
: "$bold" "$red" "$green" "$yellow" "$plain"

# Progress goes to standard error: standard output is the program's.
say() { printf '%s\n' "$bold==>$plain $*" >&2 || true; }
warn() { printf '%s\n' "${yellow}warning:$plain $*" >&2 || true; }
die() {
    printf '%s\n' "${red}error:$plain $*" >&2
    exit 1
}
has() { command -v -- "$1" >/dev/null 2>&1; }

# What makes the runtime fast and quiet; each can be overridden from outside.
runtime_environment() {
    # With RUST_BACKTRACE=1 alone, each call of the runtime captures a backtrace: 40 times slower.
    export RUST_LIB_BACKTRACE=${RUST_LIB_BACKTRACE:-0}
    # File access blocks one of the runtime's threads; two more than cores keep the agents going.
    export TOKIO_WORKER_THREADS=${TOKIO_WORKER_THREADS:-$(($(nproc) + 2))}
    # What waits for a receiver is freed by another thread than made it. With an arena of glibc's for
    # each thread, each keeps its own highest mark: 69 MB and growing after 20 million messages from
    # NATS, 52 MB and nearly standing with two. Bare messages per second: the same within 4 %. One
    # arena takes 6 MB less, and half a second more to start.
    export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-2}
    # A sandbox sees nothing of the machine: told what there is, the node warns of what will hurt.
    export NODE_SURROUNDINGS=${NODE_SURROUNDINGS:-$(surroundings)}
    # The program and the runtime both read RUST_LOG. The runtime would warn of each death that a
    # supervisor is there for, so a plain level means the program's own.
    local crate=rust_wasm_lunatic_nats
    case ${RUST_LOG:-info} in
        off | error | warn | info | debug | trace)
            export RUST_LOG="error,lunatic_process=off,$crate=${RUST_LOG:-info}"
            ;;
    esac
}

# What the machine has and allows, in the words of src/surroundings.rs.
surroundings() {
    local mappings
    printf 'cores=%s open_files=%s address_space_kb=%s' "$(nproc)" "$(ulimit -n)" "$(ulimit -v)"
    if mappings=$(cat /proc/sys/vm/max_map_count 2>/dev/null); then
        printf ' max_map_count=%s' "$mappings"
    fi
    printf '%s\n' "$(memory_kb)"
}

# ` memory_kb=N`: what the machine has, or what the container or the service may have of it, which
# is the least that a control group on the way up says. Nothing if nobody tells.
memory_kb() {
    local group least='' bytes file
    [[ ! -r /proc/meminfo ]] || least=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
    group=$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null || true)
    while :; do
        file=/sys/fs/cgroup${group%/}/memory.max
        if [[ -r $file ]] && bytes=$(<"$file") && [[ $bytes != max ]]; then
            ((${least:-0} > 0 && least <= bytes / 1024)) || least=$((bytes / 1024))
        fi
        [[ -n ${group%/} ]] || break
        group=${group%/*}
    done
    [[ -z $least ]] || printf ' memory_kb=%s' "$least"
}

# hold_data_dir ARGUMENT...: makes sure that no other node on this machine uses the directory that
# --data-dir names: a store removes what it takes for the leavings of a crash. The lock is on the
# directory itself, in a file that the program inherits, and gone with the program, however it ends.
hold_data_dir() {
    local directory='' lock
    while (($# > 0)); do
        case $1 in
            --) break ;;
            --data-dir) directory=${2-} ;;
            --data-dir=*) directory=${1#*=} ;;
        esac
        shift
    done
    { [[ -d $directory ]] && has flock; } || return 0
    exec {lock}<"$directory" || die "the data directory $directory cannot be opened"
    flock --nonblock "$lock" ||
        die "another node on this machine uses the data directory $directory: give each its own"
}

# use_prebuilt: the program in PREBUILT_WASM, and a runtime that is there; nothing is installed.
use_prebuilt() {
    WASM_FILE=$PREBUILT_WASM
    [[ -r $WASM_FILE ]] || die "PREBUILT_WASM is $WASM_FILE, which cannot be read"
    LUNATIC=${LUNATIC:-$(command -v lunatic || true)}
    [[ -x $LUNATIC ]] || die "there is no lunatic in the PATH, and LUNATIC names no program"
}

# build_wasm FEATURES: the release program for Lunatic, in $WASM_FILE.
build_wasm() {
    local features=$1
    # From the root, where .cargo/config.toml is.
    (cd "$ROOT" && cargo build --locked --release --target "$WASM_TARGET" \
        --no-default-features --features "$features")
    [[ -f $WASM_FILE ]] || die "cargo build left no $WASM_FILE"
}

# port_is_open PORT: whether something on this machine listens there.
port_is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_port WANTED...: the first of them that is free, or some other one.
free_port() {
    local port
    for port in "$@"; do
        port_is_open "$port" || { echo "$port" && return; }
    done
    for _ in {1..100}; do
        port=$((20000 + RANDOM % 10000))
        port_is_open "$port" || { echo "$port" && return; }
    done
    die "found no free port"
}

# ws_talk HOST PORT [BYTES [WORD]]: opens a NATS WebSocket, sends the protocol BYTES (printf %b) if
# there are any, and waits for the WORD to come: by default for the PONG which says that the server has
# taken them. Fails if no NATS answers there, or if it refuses.
ws_talk() {
    # By bash's own sockets: nothing has to be installed for it. What is sent can have a password in
    # it, and the arguments of a process are there for all to see, its environment is not.
    # shellcheck disable=SC2016 # the inner shell expands them
    WS_FRAME=$(ws_frame "${3-}") timeout 5 bash -c '
        set -euo pipefail
        host=$1 port=$2 word=$3 frame=$WS_FRAME
        exec 3<>"/dev/tcp/$host/$port"
        printf "%s\r\n" "GET / HTTP/1.1" "Host: $host:$port" "Upgrade: websocket" \
            "Connection: Upgrade" "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==" \
            "Sec-WebSocket-Version: 13" "" >&3
        IFS= read -r -t 2 status <&3
        [[ $status == *" 101 "* ]]
        IFS= read -r -t 2 -d "}" info <&3
        [[ $info == *"INFO {"* ]]
        [[ -n $frame ]] || exit 0
        printf "%b" "$frame" >&3
        while IFS= read -r -t 2 -d "${word: -1}" part <&3; do
            [[ $part != *-ERR* ]] || exit 1
            [[ $part != *"${word%?}" ]] || exit 0
        done
        exit 1
    ' ws_talk "$1" "$2" "${4:-PONG}" 2>/dev/null
}

# ws_publish HOST PORT SUBJECT BODY: publishes on a NATS that asks for no credentials, or for those in
# NATS_TOKEN, or NATS_USER and NATS_PASSWORD.
ws_publish() {
    ws_talk "$1" "$2" "$(nats_connect)\\r\\nPUB $3 ${#4}\\r\\n$4\\r\\nPING\\r\\n"
}

# ws_request HOST PORT SUBJECT BODY WORD: whether an answer with WORD in it comes.
ws_request() {
    local inbox
    printf -v inbox '_INBOX.%08x%08x%08x' "$SRANDOM" "$SRANDOM" "$SRANDOM"
    ws_talk "$1" "$2" \
        "$(nats_connect)\\r\\nSUB $inbox 1\\r\\nPUB $3 $inbox ${#4}\\r\\n$4\\r\\n" "$5"
}

# The CONNECT of a NATS client with these credentials, for printf %b.
nats_connect() {
    local connect='{"verbose":false,"pedantic":false,"protocol":1,"lang":"bash","version":"1"'
    [[ -z ${NATS_TOKEN-} ]] || connect+=,\"auth_token\":$(json_string "$NATS_TOKEN")
    if [[ -n ${NATS_USER-} ]]; then
        connect+=,\"user\":$(json_string "$NATS_USER")
        connect+=,\"pass\":$(json_string "${NATS_PASSWORD-}")
    fi
    # printf %b would take its backslashes for its own.
    printf '%s' "CONNECT ${connect//\\/\\\\}}"
}

# json_string TEXT: as a string of JSON, for texts without control characters.
json_string() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# ws_frame BYTES: one masked binary frame with BYTES (printf %b), as escapes for printf %b. The
# mask is zero, which leaves the bytes as they are.
ws_frame() {
    local bytes=$1 length
    [[ -n $bytes ]] || return 0
    length=$(printf '%b' "$bytes" | wc -c)
    if ((length < 126)); then
        printf '\\x82\\x%02x' $((0x80 | length))
    else
        printf '\\x82\\xfe\\x%02x\\x%02x' $((length >> 8)) $((length & 255))
    fi
    printf '\\x00\\x00\\x00\\x00%s' "$bytes"
}

# start_server DIRECTORY: a nats-server from nats-websocket.conf, with other ports where those are
# taken. Sets SERVER_PID, NATS_TCP_PORT and NATS_WS_PORT. Its log is DIRECTORY/nats.log.
start_server() {
    local directory=$1 conf=$1/nats.conf
    NATS_TCP_PORT=$(free_port "${NATS_TCP_PORT:-4222}")
    NATS_WS_PORT=$(free_port "${NATS_WS_PORT:-8080}")
    sed -e "s/127\.0\.0\.1:4222/127.0.0.1:$NATS_TCP_PORT/" \
        -e "s/127\.0\.0\.1:8080/127.0.0.1:$NATS_WS_PORT/" \
        "$ROOT/nats-websocket.conf" >"$conf"
    detached "$NATS_SERVER" -c "$conf" >"$directory/nats.log" 2>&1 &
    SERVER_PID=$!
    for _ in {1..100}; do
        kill -0 "$SERVER_PID" 2>/dev/null || break
        port_is_open "$NATS_WS_PORT" && port_is_open "$NATS_TCP_PORT" && return
        sleep 0.05
    done
    cat "$directory/nats.log" >&2
    die "nats-server did not come up; its log is above"
}

# detached COMMAND...: becomes COMMAND, out of reach of the terminal's Ctrl-C, so that this script
# can end it in good order; and ended by the kernel should the script itself be killed.
detached() {
    if has setpriv && setpriv --pdeathsig KILL true 2>/dev/null; then
        exec setsid setpriv --pdeathsig KILL "$@"
    fi
    exec setsid "$@"
}

# end_process PID [SECONDS]: asks it to end, and kills it if it has not within the time.
end_process() {
    local pid=$1 seconds=${2:-3}
    kill -TERM "$pid" 2>/dev/null || true
    await_end "$pid" "$seconds" || kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# await_end PID SECONDS: whether it ends within the time.
await_end() {
    local pid=$1
    for ((i = 0; i < $2 * 20; i++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}
