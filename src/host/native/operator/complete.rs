//! `completions`: for shells.

use clap::CommandFactory;
use clap_complete::{generate, Shell};

use super::args::{Completions, Operator};
use super::failure::Failure;
use super::out::Out;

pub(super) fn run(args: &Completions, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut command = Operator::command();
    // The program's other commands have their own command line; what they are called is known.
    for (name, about) in [
        ("demo", "Count words with agents that are made to die"),
        ("node", "Run agents until told to stop"),
    ] {
        command = command.subcommand(clap::Command::new(name).about(about));
    }
    out.text(&script(args.shell, &mut command))
}

fn script(shell: Shell, command: &mut clap::Command) -> String {
    let name = env!("CARGO_PKG_NAME");
    // clap_complete 4.6 writes for bash what does not fit together if there is a hyphen in the name: so
    // it gets another one, which stands for the program's in the last lines alone.
    let stands_for_it = name.replace('-', "_");
    let used = if shell == Shell::Bash { &stands_for_it } else { name };
    // Into memory first: it panics where it cannot write.
    let mut script = Vec::new();
    generate(shell, &mut command.clone().bin_name(used), used, &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => script.replace(&format!(" {used}\n"), &format!(" {name}\n")),
        _ => script.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::paint::Paint;
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for &shell in Shell::value_variants() {
            let mut written = Vec::new();
            let mut out = Out::new(&mut written, false, Paint::Off);
            run(&Completions { shell }, &mut out).expect("it is written");
            let script = String::from_utf8(written).expect("text");
            for (name, _) in Operator::commands() {
                assert!(script.contains(&name), "{shell}: {name}");
            }
            assert!(script.contains("gather-ms") && script.contains("demo"), "{shell}");
        }
    }
}
