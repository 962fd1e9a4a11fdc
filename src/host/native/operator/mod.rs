//! The operator's commands: `status`, `agents`, `spawn`, `stop`, `send`, `watch`, `top`. They talk to nodes of
//! any host, over the wire contract alone, as any NATS client could. `docs/OPERATOR.md` shows them.
//!
//! What is shown is made of values by functions that know no socket and no clock; the part around them
//! that asks and listens is thin.

mod agents;
mod answer;
mod args;
mod complete;
mod connect;
mod failure;
mod harmless;
mod nodes;
mod out;
mod paint;
mod send;
mod spawn;
mod status;
mod stop;
mod table;
mod top;
mod units;
mod watch;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Operation, Operator};
use failure::Failure;
use nodes::Nodes;
use out::Out;
use paint::Tone;

/// Does what these words say, which are those behind the program's name, if they are a command of the
/// operator's or ask for help; `None` leaves them to the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    if Operator::is_help(&args) {
        // `help status` is `status --help`.
        return Some(match args.get(1) {
            Some(command) if Operator::is_meant(&args[1..]) => {
                obey(vec![command.clone(), OsString::from("--help")])
            }
            _ => print(&help()),
        });
    }
    Operator::is_meant(&args).then(|| obey(args))
}

/// What `--help` prints: that of the program, with the operator's commands behind its own.
pub fn help() -> String {
    const OWN: &str = include_str!("../../../cli/help.txt");
    let mut commands = String::new();
    for (name, about) in Operator::commands() {
        commands.push_str(&format!("    {name:<12} {about}\n"));
    }
    let operators = include_str!("help.txt").replace("{commands}\n", &commands);
    format!("{OWN}{operators}{}", crate::cli::HELP.strip_prefix(OWN).unwrap_or_default())
}

fn obey(args: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from(env!("CARGO_PKG_NAME"))).chain(args);
    match Operator::try_parse_from(words) {
        Ok(operator) => run(&operator),
        Err(error) => {
            // Help and version are such errors, too; where nobody reads them, so be it.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn run(operator: &Operator) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let common = &operator.common;
    let mut stdout = io::stdout();
    let paint = common.color.decide(stdout.is_terminal(), env);
    let mut out = Out::new(&mut stdout, common.json, paint);
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("the system refuses: {error}")))
        .and_then(|runtime| {
            let done = runtime.block_on(perform(operator, &env, &mut out));
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
            done
        });
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if let Some(told) = failure.told() {
        // Who reads neither of the two is told by the exit status.
        let _ = match common.json {
            true => out.json(&told.json()).map_err(|_| ()),
            false => {
                let paint = common.color.decide(io::stderr().is_terminal(), env);
                io::stderr().write_all(told.text(paint).as_bytes()).map_err(|_| ())
            }
        };
    }
    failure.exit_code()
}

async fn perform(
    operator: &Operator,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let common = &operator.common;
    let connect = || async {
        let connection = connect::connect(common, env).await?;
        Ok::<_, Failure>(Nodes::new(connection, common))
    };
    match &operator.command {
        Operation::Status(args) => status::run(args, &connect().await?, out).await,
        Operation::Agents(args) => agents::run(args, &connect().await?, out).await,
        Operation::Spawn(args) => {
            // A mistake is told before anybody is asked.
            args.command()?;
            spawn::run(args, &connect().await?, out).await
        }
        Operation::Stop(args) => stop::run(args, &connect().await?, out).await,
        Operation::Send(args) => {
            #[allow(clippy::disallowed_methods, reason = "no runtime of agents waits behind it")]
            let said = send::read(args, io::stdin())?;
            let mut nodes = connect().await?;
            nodes.timeout = args::Send::timeout(common);
            send::run(args, said, &nodes, out).await
        }
        Operation::Watch(args) => {
            let paint = common.color.decide(io::stderr().is_terminal(), env);
            let mut notices = |text: &str| {
                // Who does not read them, does without.
                let _ = writeln!(io::stderr(), "{}", paint.text(Tone::Faint, text));
            };
            watch::run(args, &connect().await?, out, &mut notices).await
        }
        Operation::Top(args) => {
            top::check_terminal(out.json)?;
            top::run(args, &connect().await?, out).await
        }
        Operation::Completions(args) => complete::run(args, out),
    }
}

fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::from) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit_code(),
    }
}
