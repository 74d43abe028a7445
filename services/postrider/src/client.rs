//! The client commands: noun and verb, over gRPC to the control service. They hold no state of their own; what they print
//! is for people (`-o table`) or for scripts (`-o json`, `-o yaml`), and their exit codes say what became of it.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod audit;
pub mod config;
mod connection;
pub mod credential;
mod dead_letter;
pub mod domain;
pub mod event;
mod failure;
mod filter;
mod hold;
pub mod message;
mod operation;
mod order;
mod output;
mod queue;
pub mod route;
mod table;
pub mod tenant;
mod time;
mod top;

pub use connection::Connection;
pub use failure::Failure;
pub use output::Format;
pub use queue::QueueVerb;

use connection::Session;
use output::Output;

/// What the exit codes mean; for the help of every client command.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 server unreachable, \
5 token refused, 6 conflict (exists already, still in use, or changed meanwhile), 7 audit: a difference";

/// The client commands, each a noun with its verbs. Flatten it into the binary's own subcommands.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Tenants: senders with their own credentials, domains and events
    #[command(after_help = EXIT_CODES)]
    Tenant(Noun<tenant::TenantVerb>),
    /// Credentials: user names and machine-made secrets of submitting clients
    #[command(after_help = EXIT_CODES)]
    Credential(Noun<credential::CredentialVerb>),
    /// Domains that tenants send as, and their DKIM keys
    #[command(after_help = EXIT_CODES)]
    Domain(Noun<domain::DomainVerb>),
    /// Routes: where mail for a domain goes instead of its MX
    #[command(after_help = EXIT_CODES)]
    Route(Noun<route::RouteVerb>),
    /// All configuration as one document
    #[command(after_help = EXIT_CODES)]
    Config(Noun<config::ConfigVerb>),
    /// What is in the queue, and why; retried, deleted or bounced by a filter
    #[command(after_help = EXIT_CODES)]
    Queue(Noun<QueueVerb>),
    /// Messages: the life of one, those to an address; one put on hold, released, retried, deleted or bounced
    #[command(after_help = EXIT_CODES)]
    Message(Noun<message::MessageVerb>),
    /// Holds: mail that waits until an operator says otherwise; and orders that are still in force
    #[command(after_help = EXIT_CODES)]
    Hold(Noun<hold::HoldVerb>),
    /// The audit trail: what operators did
    #[command(after_help = EXIT_CODES)]
    Operation(Noun<operation::OperationVerb>),
    /// Dead letters: mail that could not be decoded or read
    #[command(after_help = EXIT_CODES)]
    DeadLetter(Noun<dead_letter::DeadLetterVerb>),
    /// The queue as a live table: sites and tenants with rates, depth, oldest and why it waits
    Top(top::TopCommand),
    /// Whether everything that was accepted has ended or waits, by tenant and hour
    Audit(Plain<audit::AuditArgs>),
    /// Events: what happened to every recipient
    #[command(after_help = EXIT_CODES)]
    Event(Noun<event::EventVerb>),
}

/// A noun's verbs, with the options that every client command takes before or behind the verb.
#[derive(Debug, Args)]
pub struct Noun<V: Subcommand> {
    #[command(flatten)]
    connection: Connection,
    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Options of every command"
    )]
    output: Format,
    #[command(subcommand)]
    verb: V,
}

/// A command without verbs, with the options that every client command takes.
#[derive(Debug, Args)]
pub struct Plain<A: Args> {
    #[command(flatten)]
    connection: Connection,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Options of every command")]
    output: Format,
    #[command(flatten)]
    arguments: A,
}

/// Runs a client command to its end; what failed has been said on standard error.
pub async fn run(command: ClientCommand) -> ExitCode {
    let ended = match command {
        ClientCommand::Tenant(noun) => with(noun, tenant::run).await,
        ClientCommand::Credential(noun) => with(noun, credential::run).await,
        ClientCommand::Domain(noun) => with(noun, domain::run).await,
        ClientCommand::Route(noun) => with(noun, route::run).await,
        ClientCommand::Config(noun) => with(noun, config::run).await,
        ClientCommand::Queue(noun) => with(noun, queue::run).await,
        ClientCommand::Message(noun) => with(noun, message::run).await,
        ClientCommand::Hold(noun) => with(noun, hold::run).await,
        ClientCommand::Operation(noun) => with(noun, operation::run).await,
        ClientCommand::DeadLetter(noun) => with(noun, dead_letter::run).await,
        ClientCommand::Top(command) => top::run(command).await,
        ClientCommand::Audit(plain) => with_plain(plain, audit::run).await,
        ClientCommand::Event(noun) => with(noun, event::run).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn with<V: Subcommand>(
    noun: Noun<V>,
    run: impl AsyncFnOnce(V, Session, Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let session = noun.connection.open().await?;
    let place = session.place();
    run(noun.verb, session, Output::new(noun.output)).await.map_err(|failure| place.explain(failure))
}

async fn with_plain<A: Args>(
    plain: Plain<A>,
    run: impl AsyncFnOnce(A, Session, Output) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let session = plain.connection.open().await?;
    let place = session.place();
    run(plain.arguments, session, Output::new(plain.output)).await.map_err(|failure| place.explain(failure))
}

/// The end of a verb's help: examples, and what the exit codes mean.
fn examples(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("  postrider {line}\n")).collect();
    format!("Examples:\n{lines}\n{EXIT_CODES}")
}
