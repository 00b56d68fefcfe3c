//! Porcupine's logs of a key-value store of texts: EDN maps, one a line, with the functions `:get`,
//! `:put` and `:append`, which are read as `read`, `write` and `append`.
//!
//! They have no times. A key that was never put reads as `""`.

use std::io::{self, Write};

use crate::{Event, F, History, Process};

use super::edn::print;
use super::{Format, ReadError, ReadOptions, ReadReport};

/// Reads a history.
///
/// # Errors
///
/// As [`super::edn::read`].
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    super::read_stream(text.as_bytes(), file, Some(Format::PorcupineKv), options)
}

/// Gives functions the names that they have here.
pub(super) fn translate(events: &mut [Event]) {
    for event in events {
        event.f = match event.f.name() {
            "get" => F::Read,
            "put" => F::Write,
            _ => continue,
        };
    }
}

/// Writes process, type, function, key and value.
///
/// # Errors
///
/// Those of the output; [`io::ErrorKind::InvalidInput`] for an event that the format has no place
/// for: of the nemesis, without a key, or of another function.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    for event in &history.events {
        let refuse = |why: &str| {
            let message = format!("event {}: {why}", event.index);
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        };
        let f = match event.f {
            F::Read => "get",
            F::Write => "put",
            F::Append => "append",
            _ => return refuse("its function is not read, write or append"),
        };
        let Process::Client(process) = event.process else {
            return refuse("it is not of a numbered client");
        };
        let Some(key) = &event.key else {
            return refuse("it has no key");
        };
        let (mut name, mut value) = (String::new(), String::new());
        print::value(&mut name, key);
        print::value(&mut value, &event.value);
        writeln!(
            out,
            "{{:process {process}, :type :{}, :f :{f}, :key {name}, :value {value}}}",
            event.kind.name()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn comes_back_to_the_byte() {
        let text = "{:process 9, :type :invoke, :f :append, :key \"0\", :value \"x 9 0 y\"}\n\
                    {:process 1, :type :invoke, :f :get, :key \"9\", :value nil}\n\
                    {:process 1, :type :ok, :f :get, :key \"9\", :value \"\"}\n\
                    {:process 9, :type :ok, :f :append, :key \"0\", :value \"x 9 0 y\"}\n";
        let report = read(text, "x", &ReadOptions::default()).unwrap();
        assert_eq!(report.history.events[1].f, F::Read);
        assert_eq!(report.history.events[1].key, Some(Value::str("9")));
        let mut out = Vec::new();
        write(&mut out, &report.history).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn refuses_what_it_cannot_say() {
        let text = "{:process 9, :type :invoke, :f :cas, :key \"0\", :value [1 2]}";
        let history = read(text, "x", &ReadOptions::default()).unwrap().history;
        let error = write(&mut Vec::new(), &history).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
