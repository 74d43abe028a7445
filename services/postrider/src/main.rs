//! One binary, a subcommand each.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use postrider::bench::{self, BenchArgs};
use postrider::client::{self, ClientCommand};
use postrider::receiver::ReceiverArguments;
use postrider::serve::{self, ServeArgs};
use postrider::up::{self, UpArgs};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Postrider: a mail delivery cluster. Mail is durable in NATS JetStream before the sender hears 250, and is delivered to the
/// recipients' exchangers by workers that own nothing they cannot lose.
#[derive(Parser)]
#[command(name = "postrider", version, arg_required_else_help = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the whole cluster on this machine, in one process
    Up(Box<UpArgs>),
    /// Serve SMTP: take mail and make it durable
    Ingress(ServeArgs),
    /// Deliver mail from the queue
    Delivery(ServeArgs),
    /// Serve the control API
    Control(ServeArgs),
    /// Play a mailbox provider, for tests and demos
    Receiver(ReceiverArguments),
    /// Measure rate, latency, CPU and memory under load, alone or in turns with Postfix
    Bench(Box<BenchArgs>),
    #[command(flatten)]
    Client(ClientCommand),
    /// Print completions for a shell: source <(postrider completion bash)
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Up(args) => up::run(*args).await,
        Command::Ingress(args) => serve::ingress(&args).await,
        Command::Delivery(args) => serve::delivery(&args).await,
        Command::Control(args) => serve::control(&args).await,
        Command::Receiver(args) => serve::receiver(args).await,
        Command::Bench(args) => bench::run(*args).await,
        Command::Client(command) => return client::run(command).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "postrider", &mut script);
            match std::io::stdout().write_all(&script) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            }
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            postrider::complain(&error);
            ExitCode::FAILURE
        }
    }
}
