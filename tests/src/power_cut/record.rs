//! Reads what strace wrote (`-f -ttt -T -xx`): one line a call, or two where another thread's line came between. Knows the
//! form of the lines, not what the calls mean.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A call that returned without an error, in the order in which they returned.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// What stands between the brackets, strings in hexadecimal.
    arguments: String,
    pub result: i64,
    /// The number of calls that had returned before this one began.
    pub began_after: usize,
    /// Since 1970.
    pub returned: Duration,
}

/// All calls of a process.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub calls: Vec<Call>,
    /// Those that never returned.
    unfinished: Vec<Call>,
}

struct Begun {
    name: String,
    arguments: String,
    at: Duration,
    began_after: usize,
}

fn unfinished(begun: Begun) -> Call {
    let Begun { name, arguments, began_after, .. } = begun;
    Call { name, arguments, result: 0, began_after, returned: Duration::MAX }
}

impl Record {
    pub fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        let mut begun: HashMap<&str, Begun> = HashMap::new();
        for line in text.lines() {
            record.line(line, &mut begun).with_context(|| line.chars().take(200).collect::<String>())?;
        }
        record.unfinished.extend(begun.into_values().map(unfinished));
        Ok(record)
    }

    fn line<'a>(&mut self, line: &'a str, begun: &mut HashMap<&'a str, Begun>) -> Result<()> {
        let (thread, rest) = line.split_once(' ').context("no thread")?;
        let (at, rest) = rest.trim_start().split_once(' ').context("no time")?;
        let at = Duration::try_from_secs_f64(at.parse()?)?;
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        let call = if let Some(rest) = rest.strip_prefix("<... ") {
            let (_, ending) = rest.split_once(" resumed>").context("no resumption")?;
            let mut call = begun.remove(thread).context("resumed without a beginning")?;
            call.arguments.push_str(ending);
            call
        } else {
            let (name, rest) = rest.split_once('(').context("no call")?;
            let call = Begun { name: name.to_owned(), arguments: rest.to_owned(), at, began_after: self.calls.len() };
            if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, Begun { arguments: arguments.to_owned(), ..call });
                return Ok(());
            }
            call
        };
        // `arguments) = result <duration>`; a result of an error has words behind it. What was killed has `?`.
        let (arguments, ending) = call.arguments.rsplit_once(" = ").context("no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').context("no closing bracket")?.to_owned();
        let Ok(result) = ending.split([' ', '<']).next().unwrap_or_default().parse::<i64>() else {
            self.unfinished.push(unfinished(Begun { arguments, ..call }));
            return Ok(());
        };
        if result < 0 {
            return Ok(());
        }
        let took = ending.rsplit_once('<').and_then(|(_, text)| text.strip_suffix('>')).context("no duration")?;
        let returned = call.at + Duration::try_from_secs_f64(took.parse()?)?;
        self.calls.push(Call { name: call.name, arguments, result, began_after: call.began_after, returned });
        Ok(())
    }

    /// Files named by calls that never returned, and all files that a descriptor of such a call may be.
    pub fn unfinished_files(&self) -> BTreeSet<PathBuf> {
        let descriptors: BTreeSet<i64> = self.unfinished.iter().filter_map(|call| call.number(0).ok()).collect();
        let opened =
            self.calls.iter().filter(|call| call.name.starts_with("open") && descriptors.contains(&call.result));
        let named = opened.chain(&self.unfinished).flat_map(|call| call.strings().unwrap_or_default());
        named.map(path).collect()
    }
}

/// From when to when the successful calls of a thread that does nothing else took (`-ttt -T`, without `-f`).
pub fn spans(text: &str) -> Result<Vec<(Duration, Duration)>> {
    let span = |line: &str| -> Result<(Duration, Duration)> {
        let at = line.split(' ').next().unwrap_or_default();
        let took = line.rsplit_once('<').and_then(|(_, text)| text.strip_suffix('>')).context("no duration")?;
        let at = Duration::try_from_secs_f64(at.parse()?)?;
        Ok((at, at + Duration::try_from_secs_f64(took.parse()?)?))
    };
    let done = text.lines().filter(|line| line.contains(" = 0 <"));
    done.map(|line| span(line).with_context(|| line.to_owned())).collect()
}

/// A path as it was handed over.
pub fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

impl Call {
    /// Arguments that are no part of a list, strings included.
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.arguments.split(", ")
    }

    /// The argument at this place, a decimal number.
    pub fn number(&self, place: usize) -> Result<i64> {
        let part = self.parts().nth(place).context("too few arguments")?;
        part.trim().parse().with_context(|| format!("{}: {part:.40} is no number", self.name))
    }

    /// The last argument, a decimal number.
    pub fn last_number(&self) -> Result<i64> {
        self.number(self.parts().count().saturating_sub(1))
    }

    /// Whether a flag stands among the arguments.
    pub fn has(&self, flag: &str) -> bool {
        self.parts().any(|part| part.trim().split('|').any(|word| word == flag))
    }

    /// The folder descriptor at this place, unless the working directory is meant.
    pub fn folder(&self, place: usize) -> Result<Option<i64>> {
        match self.parts().nth(place) {
            Some("AT_FDCWD") => Ok(None),
            _ => self.number(place).map(Some),
        }
    }

    /// All strings among the arguments.
    pub fn strings(&self) -> Result<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        let mut rest = self.arguments.as_str();
        while let Some((_, from)) = rest.split_once('"') {
            let (text, after) = from.split_once('"').context("a string without end")?;
            if after.starts_with("...") {
                bail!("{}: a string was cut short", self.name);
            }
            strings.push(bytes(text)?);
            rest = after;
        }
        Ok(strings)
    }

    /// What was written.
    pub fn data(&self) -> Result<Vec<u8>> {
        let mut data = self.strings()?.concat();
        data.truncate(usize::try_from(self.result)?);
        Ok(data)
    }
}

/// `\x2f\x74` as bytes.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |coded: &[u8]| match coded {
        [b'\\', b'x', high, low] => Some(digit(high)? * 16 + digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(4).map(byte).collect::<Option<_>>().context("a string that is not in hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_two_lines_is_one() {
        let text = "7 10.000000 pwrite64(5, \"\\x61\\x62\", 2, 40 <unfinished ...>\n\
                    8 10.000010 fsync(5) = 0 <0.000005>\n\
                    7 10.000020 <... pwrite64 resumed>) = 2 <0.000030>\n\
                    7 10.000040 openat(AT_FDCWD, \"\\x2f\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file) <0.000001>\n\
                    9 10.000050 write(5, \"\\x63\", 1 <unfinished ...>\n\
                    7 10.000060 +++ killed by SIGKILL +++\n";
        let record = Record::parse(text).unwrap();
        let names: Vec<&str> = record.calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["fsync", "pwrite64"]);
        let write = &record.calls[1];
        assert_eq!((write.data().unwrap(), write.last_number().unwrap(), write.began_after), (b"ab".to_vec(), 40, 0));
        assert_eq!(write.returned, Duration::from_micros(10_000_030));
        assert_eq!(record.unfinished.len(), 1);
    }
}
