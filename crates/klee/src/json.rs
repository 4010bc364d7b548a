//! Values as indented JSON, in colours on a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter, Serializer};

const KEY: &[u8] = b"\x1b[1;34m";
const STRING: &[u8] = b"\x1b[32m";
const NUMBER: &[u8] = b"\x1b[1;36m";
const TRUE: &[u8] = b"\x1b[92m";
const FALSE: &[u8] = b"\x1b[91m";
const NULL: &[u8] = b"\x1b[35m";
const PLAIN: &[u8] = b"\x1b[0m";

/// The value with an indent of two, and a newline at the end.
pub fn render(value: &impl Serialize, colour: bool) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    if colour {
        let formatter = Colourful {
            pretty: PrettyFormatter::new(),
            in_key: false,
        };
        value.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    } else {
        serde_json::to_writer_pretty(&mut text, value)?;
    }
    text.push(b'\n');
    Ok(text)
}

/// [`PrettyFormatter`] with colours.
struct Colourful {
    pretty: PrettyFormatter<'static>,
    in_key: bool,
}

impl Colourful {
    fn scalar<W: ?Sized + Write>(
        writer: &mut W,
        colour: &[u8],
        text: impl std::fmt::Display,
    ) -> io::Result<()> {
        writer.write_all(colour)?;
        write!(writer, "{text}")?;
        writer.write_all(PLAIN)
    }
}

macro_rules! delegate {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            self.pretty.$method(writer $(, $argument)*)
        }
    )*};
}

macro_rules! numbers {
    ($($method:ident($type:ty);)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, value: $type) -> io::Result<()> {
            Self::scalar(writer, NUMBER, value)
        }
    )*};
}

impl Formatter for Colourful {
    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_value();
        end_object_value();
        write_string_fragment(fragment: &str);
        write_char_escape(escape: CharEscape);
    }
    numbers! {
        write_i8(i8); write_i16(i16); write_i32(i32); write_i64(i64); write_i128(i128);
        write_u8(u8); write_u16(u16); write_u32(u32); write_u64(u64); write_u128(u128);
    }

    fn write_null<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        Self::scalar(writer, NULL, "null")
    }

    fn write_bool<W: ?Sized + Write>(&mut self, writer: &mut W, value: bool) -> io::Result<()> {
        Self::scalar(writer, if value { TRUE } else { FALSE }, value)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.in_key = true;
        self.pretty.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.in_key = false;
        self.pretty.end_object_key(writer)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.in_key { KEY } else { STRING })?;
        self.pretty.begin_string(writer)
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_string(writer)?;
        writer.write_all(PLAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_all_that_differs() {
        let value =
            serde_json::json!({"a": [1, -2, true, false, null, "x\n\"é"], "b": {}, "c": []});
        let plain = String::from_utf8(render(&value, false).unwrap()).unwrap();
        let mut colourful = String::from_utf8(render(&value, true).unwrap()).unwrap();
        assert!(colourful.contains("\x1b[1;34m\"a\"\x1b[0m: ["));
        for code in [KEY, STRING, NUMBER, TRUE, FALSE, NULL, PLAIN] {
            let code = std::str::from_utf8(code).unwrap();
            assert!(colourful.contains(code), "{code:?}");
            colourful = colourful.replace(code, "");
        }
        assert_eq!(colourful, plain);
        assert!(plain.starts_with("{\n  \"a\": [\n    1,\n"));
    }
}
