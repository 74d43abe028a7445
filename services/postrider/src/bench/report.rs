//! `postrider bench report`: every table of `services/BENCHMARKS.md` in one run, in its order, with the machine it was made on.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Parser, ValueEnum};
use postrider_runtime::clock;
use tokio_util::sync::CancellationToken;

use super::arguments::BenchArgs;
use super::growth::GrowthArgs;

/// All tables of services/BENCHMARKS.md in one run.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Takes some 25 minutes on two quiet cores (--quick: some 5, for a look). Postfix is compared where it is\n\
    installed and this runs as root; with DKIM where opendkim is installed too."
)]
pub struct ReportArgs {
    /// The Markdown file to write; one with the marks of results keeps what stands around them.
    #[arg(long, value_name = "FILE.md")]
    pub out: PathBuf,

    /// Where to write the plot of growth.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: PathBuf,

    /// Fewer messages, one round, no backlog above 100,000.
    #[arg(long)]
    pub quick: bool,

    /// Leave these parts out.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub skip: Vec<Part>,

    /// Where the temporary folders are made.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Rate and cost in clear text.
    Plain,
    /// Bodies that do not compress.
    Incompressible,
    /// TLS and DKIM.
    Secured,
    /// Latency at 100 messages a second.
    Latency,
    /// Backlog and sites.
    Growth,
}

/// A part: heading, words for `postrider bench`, words instead for a quick look, whether Postfix takes part.
struct Chapter {
    part: Part,
    heading: &'static str,
    words: &'static str,
    quick: &'static str,
}

const CHAPTERS: [Chapter; 5] = [
    Chapter {
        part: Part::Plain,
        heading: "Rate and cost",
        words: "--size 1k,10k,100k --messages 10000,6000,3000 --durability process,disk --rounds 5",
        quick: "--size 1k,10k,100k --messages 3000,2000,1000 --durability process,disk",
    },
    Chapter {
        part: Part::Incompressible,
        heading: "Bodies that do not compress",
        words: "--incompressible --size 10k,100k --messages 6000,3000 --durability process,disk --rounds 3",
        quick: "--incompressible --size 10k,100k --messages 2000,1000",
    },
    Chapter {
        part: Part::Secured,
        heading: "TLS on both sides",
        words: "--tls --size 1k,100k --messages 6000,2000 --durability process,disk --rounds 3",
        quick: "--tls --size 1k,100k --messages 2000,1000",
    },
    Chapter {
        part: Part::Secured,
        heading: "TLS on both sides and a DKIM signature",
        words: "--tls --dkim --size 1k,100k --messages 4000,2000 --durability process,disk --rounds 3",
        quick: "--tls --dkim --size 1k,100k --messages 1000,1000",
    },
    Chapter {
        part: Part::Latency,
        heading: "Latency at 100 messages a second",
        words: "--rate 100 --messages 1500 --durability process,disk --rounds 3",
        quick: "--rate 100 --messages 500 --durability process,disk",
    },
];

const GROWTH: (&str, &str) = (
    "--backlog 0,10k,100k,1m,5m --sites 1,10,100,1k,10k,100k",
    "--backlog 0,10k,100k --sites 1,100,10k --messages 10k --rounds 1",
);

/// The words of a command line, parsed as that command would.
#[derive(Parser)]
struct Parsed<A: Args> {
    #[command(flatten)]
    args: A,
}

fn parsed<A: Args>(words: &str) -> anyhow::Result<A> {
    let words = std::iter::once("bench").chain(words.split_whitespace());
    Ok(Parsed::try_parse_from(words)?.args)
}

impl ReportArgs {
    /// Makes all of it. What was measured until it is stopped or fails stays in the file.
    ///
    /// # Errors
    /// What keeps it from measuring.
    pub fn write(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut text = format!("{}\n", machine()?);
        self.save(&text)?;
        for chapter in CHAPTERS.iter().filter(|chapter| !self.skip.contains(&chapter.part)) {
            let words = if self.quick { chapter.quick } else { chapter.words };
            let mut args: BenchArgs = parsed(&format!("{words} --compare postfix"))?;
            args.folder.clone_from(&self.folder);
            writeln!(text, "### {}\n\n`postrider bench {words} --compare postfix`\n", chapter.heading).ok();
            for results in super::measure(&args, stop)? {
                writeln!(text, "{}", results.table()).ok();
                self.save(&text)?;
            }
        }
        if !self.skip.contains(&Part::Growth) {
            let words = if self.quick { GROWTH.1 } else { GROWTH.0 };
            let mut args: GrowthArgs = parsed(words)?;
            args.folder.clone_from(&self.folder);
            args.plot = Some(self.plot.clone());
            writeln!(text, "### Growth\n\n`postrider bench growth {words}`\n").ok();
            writeln!(text, "{}", args.measure(stop)?.tables()).ok();
            if let Some(name) = self.plot.file_name() {
                writeln!(text, "![rate against backlog and sites]({})\n", name.to_string_lossy()).ok();
            }
        }
        writeln!(text, "All of this took {} minutes.", began.elapsed().as_secs().div_ceil(60)).ok();
        self.save(&text)
    }

    fn save(&self, text: &str) -> anyhow::Result<()> {
        let before = std::fs::read_to_string(&self.out).unwrap_or_default();
        std::fs::write(&self.out, placed(&before, text)).with_context(|| format!("cannot write {}", self.out.display()))
    }
}

/// What the page says between these two lines is replaced; a page without them is replaced as a whole.
const MARKS: (&str, &str) = ("<!-- results -->\n", "<!-- end of results -->");

fn placed(before: &str, text: &str) -> String {
    let (head, tail) = match before.split_once(MARKS.0) {
        Some((head, rest)) => (head, rest.split_once(MARKS.1).map_or("\n", |(_, tail)| tail)),
        None => ("", "\n"),
    };
    format!("{head}{}{text}{}{tail}", MARKS.0, MARKS.1)
}

/// What it was measured on, as a list.
fn machine() -> anyhow::Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory_kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gib = memory_kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let load = read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned();
    let nats = std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
    Ok(format!(
        "Made by `postrider bench report`.\n\n\
         - {}; {} CPUs ({}), {gib} GiB of memory, Linux {}\n\
         - load average before: {load} (the rows \"CPU taken by others\" say how quiet it stayed)\n\
         - postrider {}, {}, {}\n",
        clock::now(),
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("?", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        env!("CARGO_PKG_VERSION"),
        first_line(&nats, &["--version"]),
        first_line(Path::new("postconf"), &["-d", "mail_version"]),
    ))
}

fn first_line(program: &Path, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| format!("no {}", program.display()), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_replace_results_and_nothing_else() {
        let page = placed("# Title\n<!-- results -->\nold\n<!-- end of results -->\nend\n", "new\n");
        assert_eq!(page, "# Title\n<!-- results -->\nnew\n<!-- end of results -->\nend\n");
        assert_eq!(placed(&page, "newer\n"), page.replace("new", "newer"));
        assert_eq!(placed(&placed("", "a\n"), "b\n"), "<!-- results -->\nb\n<!-- end of results -->\n");
    }

    #[test]
    fn every_chapter_is_a_command_that_is_understood() {
        for chapter in CHAPTERS {
            for words in [chapter.words, chapter.quick] {
                let args: BenchArgs = parsed(&format!("{words} --compare postfix")).unwrap();
                args.loads().unwrap();
            }
        }
        for words in [GROWTH.0, GROWTH.1] {
            assert!(parsed::<GrowthArgs>(words).is_ok());
        }
    }
}
