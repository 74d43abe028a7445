//! The order of commands against a small model (RFC 5321 section 4.1.4).

use postrider_smtp::Bounds;
use proptest::prelude::*;

use crate::support::{Caller, Stop, config};

/// What the model knows of a session.
#[derive(Default)]
struct Model {
    hello: Option<&'static str>,
    /// Accepted and refused recipients of the open transaction.
    open: Option<(usize, usize)>,
}

const COMMANDS: [&str; 18] = [
    "EHLO x",
    "HELO x",
    "EHLO",
    "MAIL FROM:<a@x>",
    "MAIL FROM:<no@x>",
    "MAIL FROM:a",
    "MAIL FROM:<a@x> BODY=8BITMIME",
    "RCPT TO:<b@y>",
    "RCPT TO:<no@y>",
    "RCPT TO:b",
    "DATA",
    "DATA x",
    "RSET",
    "NOOP",
    "VRFY x",
    "HELP",
    "FOO",
    "STARTTLS",
];

impl Model {
    /// The code that this command must be answered with.
    fn code(&mut self, command: &str) -> u16 {
        match command {
            "EHLO x" | "HELO x" => {
                self.hello = Some(if command.starts_with('E') { "EHLO" } else { "HELO" });
                self.open = None;
                250
            }
            "EHLO" => 501,
            "NOOP" => 250,
            "RSET" => {
                self.open = None;
                250
            }
            "VRFY x" => 252,
            "HELP" => 214,
            "FOO" => 500,
            "STARTTLS" => 502,
            mail if mail.starts_with("MAIL") => match (self.hello, self.open, mail) {
                (None, _, _) | (_, Some(_), _) => 503,
                (_, _, "MAIL FROM:a") => 501,
                (Some("HELO"), _, mail) if mail.contains("BODY") => 555,
                (_, _, "MAIL FROM:<no@x>") => 550,
                _ => {
                    self.open = Some((0, 0));
                    250
                }
            },
            rcpt if rcpt.starts_with("RCPT") => match (&mut self.open, rcpt) {
                (None, _) => 503,
                (_, "RCPT TO:b") => 501,
                (Some((accepted, _)), "RCPT TO:<b@y>") => {
                    *accepted += 1;
                    250
                }
                (Some((_, refused)), _) => {
                    *refused += 1;
                    550
                }
            },
            data => match (self.open, data) {
                (None, _) | (Some((0, 0)), _) => 503,
                (Some((0, _)), _) => 554,
                (_, "DATA x") => 501,
                _ => {
                    self.open = None;
                    354
                }
            },
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_commands_is_answered_as_the_model_says(
        commands in prop::collection::vec(prop::sample::select(&COMMANDS[..]), 0..60),
        greeted in any::<bool>(),
    ) {
        let patient = Bounds { errors_per_session: 1000, ..Bounds::default() };
        let mut caller = Caller::new(config(), patient);
        caller.run();
        let mut model = Model::default();
        if greeted {
            caller.codes("EHLO x");
            model.code("EHLO x");
        }
        for command in commands {
            let codes = caller.codes(command);
            prop_assert_eq!(&codes, &[model.code(command)], "{}", command);
            if codes == [354] {
                prop_assert_eq!(caller.codes("text\r\n."), [250]);
            }
        }
        prop_assert!(matches!(caller.stop, Stop::Read(_)));
    }
}
