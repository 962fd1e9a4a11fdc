# syntax=docker/dockerfile:1
# A node as a container: the Lunatic runtime, the program, the script that starts and stops it.
#
#   docker build -t rust-wasm-lunatic-nats .
#   docker run -e NODE_ID=n1 -e NATS_WEBSOCKET_URL=ws://nats:8080 -v n1:/data rust-wasm-lunatic-nats
#
# docker-compose.yml runs two of them with a server; docs/OPERATIONS.md has the rest.

ARG RUST=rust:1.95-slim-bookworm
ARG DEBIAN=debian:bookworm-slim

# The runtime: about 6 minutes on 2 cores, and cached until its version changes.
FROM ${RUST} AS lunatic
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential pkg-config libssl-dev \
    && rm -rf /var/lib/apt/lists/*
# As in scripts/setup, and like there without --locked: the lock file that it ships no longer builds.
ARG LUNATIC_VERSION=0.13.2
RUN cargo install lunatic-runtime --version ${LUNATIC_VERSION} --root /lunatic

# The program.
FROM ${RUST} AS program
RUN rustup target add wasm32-wasip1
WORKDIR /src
COPY . .
RUN cargo build --locked --release --target wasm32-wasip1 \
    --no-default-features --features wasm-only,wasm-nats

FROM ${DEBIAN}
# The runtime is linked to OpenSSL. The certificates of wss:// it checks against a list of its own.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin node \
    && install -d -o node -g node -m 0750 /data
COPY --from=lunatic /lunatic/bin/lunatic /usr/local/bin/lunatic
COPY scripts/entrypoint scripts/healthcheck scripts/lib.sh scripts/run scripts/setup /app/scripts/
COPY --from=program /src/target/wasm32-wasip1/release/rust-wasm-lunatic-nats.wasm /app/rust-wasm-lunatic-nats.wasm
# With the number, so that Kubernetes can see that it is not root.
USER 10001
WORKDIR /data
VOLUME /data
ENV LUNATIC=/usr/local/bin/lunatic
# The program hears of no signal; the script does, and tells the node by NATS.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["/app/scripts/healthcheck"]
ENTRYPOINT ["/app/scripts/entrypoint"]
CMD ["node", "--data-dir", "/data"]
