//! The command line's entry: maps every way to end to its exit code.

use std::process::ExitCode;

use clap::Parser;
use quorate::cli::{Cli, Command};
use quorate::experiment::ExperimentError;
use quorate::{commands, exit, node, plugin, serve};

/// Clients log as news or errors what is said better elsewhere.
const QUIET: &str = "info,async_nats=off,kube_client=off,lapin=off,mysql_async=off,tokio_postgres=off,zookeeper_client=off";

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(plugin::words(std::env::args_os())) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            // Help and version are answers, not mistakes.
            return ExitCode::from(if e.use_stderr() {
                exit::USAGE
            } else {
                exit::VALID
            });
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("QUORATE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(QUIET)),
        )
        .init();
    let result = match cli.command {
        Command::Test(args) => commands::test::run(&args),
        Command::Sim(args) => commands::sim::run(&args),
        Command::TrackRecord(args) => commands::track_record::run(&args),
        Command::Truth(args) => commands::truth::run(&args),
        Command::Museum(args) => commands::museum::run(&args),
        Command::Explore(args) => commands::explore::run(&args),
        Command::Shrink(args) => commands::shrink::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Preflight(args) => commands::preflight::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Report(args) => commands::check::report(&args),
        Command::Serve(args) => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(serve::run(args.store, args.listen)))
            .map(|()| exit::VALID),
        Command::Clean(args) => commands::clean::run(&args),
        Command::K8s(args) => commands::k8s::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Agent(args) => commands::agent::run(&args),
        Command::Keeper(args) => commands::keeper::run(&args),
        Command::InCluster(args) => commands::in_cluster::run(&args),
        Command::Operator(args) => commands::operator::run(&args),
        Command::List => commands::list::run(),
        Command::Completions { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "quorate",
                &mut std::io::stdout(),
            );
            Ok(exit::VALID)
        }
        Command::Node(args) => node::run(args).map(|()| exit::VALID),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("error: {}", exit::said(&e));
            let usage = e.downcast_ref::<ExperimentError>().is_some();
            ExitCode::from(if usage { exit::USAGE } else { exit::CRASHED })
        }
    }
}
