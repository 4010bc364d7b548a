//! Logs of all kinds, and all that can be wrong with them.

use std::io::Write;

use kleene_doors::log::{MAX_DATA, RECORD_HEADER, file_header};

use super::*;

const TEXT: Format = Format::Text { timestamps: false };

/// A log as a monitor writes it.
#[derive(Default)]
struct Writer {
    files: Vec<File>,
    position: u64,
}

impl Writer {
    fn new() -> Self {
        let mut writer = Self::default();
        writer.rotate();
        writer
    }

    fn rotate(&mut self) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&file_header(self.position)).unwrap();
        self.files.push(file);
    }

    /// Throws the oldest file away.
    fn forget(&mut self) {
        self.files.remove(0);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.files.last_mut().unwrap().write_all(bytes).unwrap();
    }

    fn write(&mut self, time: u64, stream: Stream, data: &[u8]) {
        let bytes = record(time, stream, data);
        self.position += bytes.len() as u64;
        self.raw(&bytes);
    }

    fn out(&mut self, text: &str) {
        self.write(1, Stream::Stdout, text.as_bytes());
    }

    /// As the host opens them.
    fn open(&self) -> Vec<File> {
        self.files.iter().map(|f| f.try_clone().unwrap()).collect()
    }

    fn reader(&self, selection: Selection, format: Format) -> LogReader {
        let mut reader = LogReader::new(selection, format);
        reader.add(self.open()).unwrap();
        reader
    }
}

fn record(time: u64, stream: Stream, data: &[u8]) -> Vec<u8> {
    let header = record_header(time, stream, u32::try_from(data.len()).unwrap());
    [&header, data].concat()
}

fn all(reader: &mut LogReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        match reader.read().unwrap() {
            Piece::Data(data) => {
                assert!(!data.is_empty());
                bytes.extend(data);
            }
            Piece::Nothing => {}
            Piece::End => return bytes,
        }
    }
}

fn text(reader: &mut LogReader) -> String {
    String::from_utf8(all(reader)).unwrap()
}

fn tail(writer: &Writer, lines: u64) -> String {
    let mut reader = writer.reader(Selection::ALL, TEXT);
    reader.keep_last_lines(lines).unwrap();
    text(&mut reader)
}

#[test]
fn records_come_as_they_are() {
    let mut log = Writer::new();
    let mut wanted = Vec::new();
    // More than two pieces, whose borders lie within records.
    for number in 0..40_u64 {
        let data = vec![u8::try_from(number).unwrap(); MAX_DATA - 7 * 40];
        let stream = match number % 3 {
            0 => Stream::Stderr,
            _ => Stream::Stdout,
        };
        log.write(number, stream, &data);
        wanted.extend(record(number, stream, &data));
        if number == 20 {
            log.rotate();
        }
    }
    log.write(99, Stream::Stdout, b"");
    wanted.extend(record(99, Stream::Stdout, b""));
    assert!(all(&mut log.reader(Selection::ALL, Format::Records)) == wanted);
}

#[test]
fn pieces_are_bounded() {
    let mut log = Writer::new();
    for _ in 0..20 {
        log.write(1, Stream::Stdout, &vec![b'\n'; MAX_DATA]);
    }
    for (format, most) in [
        (Format::Records, CHUNK),
        (TEXT, CHUNK),
        // A time before each of 65,536 lines.
        (
            Format::Text { timestamps: true },
            CHUNK + MAX_DATA * "2024-02-29T14:54:05.317207Z \n".len(),
        ),
    ] {
        let mut reader = log.reader(Selection::ALL, format);
        let mut pieces = 0;
        while let Piece::Data(data) = reader.read().unwrap() {
            assert!(data.len() <= most, "{} bytes", data.len());
            pieces += 1;
        }
        assert!(pieces > 2);
    }
}

#[test]
fn streams_and_times_are_selected() {
    let mut log = Writer::new();
    log.write(10, Stream::Stdout, b"a");
    log.write(20, Stream::Stderr, b"b");
    log.write(30, Stream::Stdout, b"c");
    let none = Selection {
        stdout: false,
        stderr: false,
        ..Selection::ALL
    };
    for (selection, wanted) in [
        (Selection::ALL, "abc"),
        (none, ""),
        (
            Selection {
                stdout: true,
                ..none
            },
            "ac",
        ),
        (
            Selection {
                stderr: true,
                ..none
            },
            "b",
        ),
        (
            Selection {
                since: 20,
                ..Selection::ALL
            },
            "bc",
        ),
        (
            Selection {
                until: 20,
                ..Selection::ALL
            },
            "a",
        ),
        (
            Selection {
                since: 11,
                until: 30,
                ..Selection::ALL
            },
            "b",
        ),
    ] {
        assert_eq!(text(&mut log.reader(selection, TEXT)), wanted);
    }
    let since = Selection {
        since: 20,
        ..Selection::ALL
    };
    let wanted = [
        record(20, Stream::Stderr, b"b"),
        record(30, Stream::Stdout, b"c"),
    ];
    let got = all(&mut log.reader(since, Format::Records));
    assert_eq!(got, wanted.concat());
}

#[test]
fn lines_get_their_times() {
    let mut log = Writer::new();
    log.write(1_000_000, Stream::Stdout, b"one\ntwo");
    log.write(2_000_000, Stream::Stderr, b" and a half\n\nthree");
    let mut reader = log.reader(Selection::ALL, Format::Text { timestamps: true });
    assert_eq!(
        text(&mut reader),
        "1970-01-01T00:00:01.000000Z one\n1970-01-01T00:00:01.000000Z two and a half\n\
         1970-01-01T00:00:02.000000Z \n1970-01-01T00:00:02.000000Z three"
    );
}

#[test]
fn the_last_lines() {
    let mut log = Writer::new();
    log.out("1\n2\n");
    log.out("3");
    log.rotate();
    log.out("3\n4\n");
    log.rotate();
    log.out("5\n");
    for (lines, wanted) in [
        (0, ""),
        (1, "5\n"),
        (2, "4\n5\n"),
        (3, "33\n4\n5\n"),
        (4, "2\n33\n4\n5\n"),
        (5, "1\n2\n33\n4\n5\n"),
        (6, "1\n2\n33\n4\n5\n"),
        (u64::MAX, "1\n2\n33\n4\n5\n"),
    ] {
        assert_eq!(tail(&log, lines), wanted, "{lines} lines");
    }
    // A line without an end is one, too.
    log.out("6");
    for (lines, wanted) in [(0, ""), (1, "6"), (2, "5\n6"), (3, "4\n5\n6")] {
        assert_eq!(tail(&log, lines), wanted, "{lines} lines");
    }
    assert_eq!(tail(&Writer::new(), 1), "");
}

#[test]
fn a_record_is_cut_where_the_last_lines_begin() {
    let mut log = Writer::new();
    log.write(7, Stream::Stderr, b"1\n2\n3\n");
    let mut reader = log.reader(Selection::ALL, Format::Records);
    reader.keep_last_lines(2).unwrap();
    assert_eq!(all(&mut reader), record(7, Stream::Stderr, b"2\n3\n"));
}

#[test]
fn only_lines_that_are_wanted_count() {
    let mut log = Writer::new();
    log.out("1\n2\n");
    log.write(1, Stream::Stderr, b"oops\noops\n");
    let stdout = Selection {
        stderr: false,
        ..Selection::ALL
    };
    let mut reader = log.reader(stdout, TEXT);
    reader.keep_last_lines(1).unwrap();
    assert_eq!(text(&mut reader), "2\n");
}

#[test]
fn lines_are_counted_across_logs() {
    let (mut first, mut second) = (Writer::new(), Writer::new());
    first.out("1\n2\n");
    second.out("3\n");
    for (lines, wanted) in [(1, "3\n"), (2, "2\n3\n"), (9, "1\n2\n3\n")] {
        let mut reader = first.reader(Selection::ALL, TEXT);
        reader.add(second.open()).unwrap();
        reader.keep_last_lines(lines).unwrap();
        assert_eq!(text(&mut reader), wanted);
    }
}

#[test]
fn what_is_torn_or_damaged_ends_a_file() {
    let whole = record(1, Stream::Stdout, b"torn");
    for end in 1..whole.len() {
        let mut log = Writer::new();
        log.out("before ");
        log.raw(&whole[..end]);
        assert_eq!(text(&mut log.reader(Selection::ALL, TEXT)), "before ");
        assert_eq!(tail(&log, 1), "before ");
        log.rotate();
        log.out("after");
        assert_eq!(text(&mut log.reader(Selection::ALL, TEXT)), "before after");
    }
    let mut log = Writer::new();
    log.out("before ");
    log.raw(&[0xff; 1000]);
    log.out("lost");
    log.rotate();
    log.out("after");
    assert_eq!(text(&mut log.reader(Selection::ALL, TEXT)), "before after");
    let records = all(&mut log.reader(Selection::ALL, Format::Records));
    assert_eq!(records.len(), 2 * RECORD_HEADER + "before after".len());
    assert_eq!(tail(&log, 1), "before after");
}

#[test]
fn what_is_no_log_is_left_out() {
    let mut log = Writer::new();
    log.out("text");
    let mut files = log.open();
    for bytes in [&b""[..], b"kleen", b"something else altogether"] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        files.push(file);
    }
    let mut reader = LogReader::new(Selection::ALL, TEXT);
    reader.add(files).unwrap();
    assert_eq!(text(&mut reader), "text");
    let mut reader = LogReader::new(Selection::ALL, TEXT);
    reader.add(Vec::new()).unwrap();
    assert_eq!(text(&mut reader), "");
}

#[test]
fn a_busy_process_does_not_make_reading_endless() {
    let mut log = Writer::new();
    log.out("now");
    let mut reader = log.reader(Selection::ALL, TEXT);
    log.out("later");
    assert_eq!(text(&mut reader), "now");
    log.rotate();
    assert_eq!(text(&mut reader), "");
}

fn growing(log: &Writer) -> LogReader {
    let mut reader = LogReader::new(Selection::ALL, TEXT);
    reader.add_growing(log.open()).unwrap();
    reader
}

#[test]
fn growth_is_read() {
    let mut log = Writer::default();
    let mut reader = growing(&log);
    assert_eq!(text(&mut reader), "");
    log.rotate();
    assert!(reader.renew(log.open()).unwrap());
    assert_eq!(text(&mut reader), "");
    // The writer is seen in the middle of a record.
    let whole = record(1, Stream::Stdout, b"1");
    log.raw(&whole[..5]);
    assert_eq!(text(&mut reader), "");
    log.raw(&whole[5..]);
    log.position += whole.len() as u64;
    assert_eq!(text(&mut reader), "1");
    assert!(!reader.renew(log.open()).unwrap());
    log.out("2");
    assert_eq!(text(&mut reader), "2");
}

#[test]
fn rotation_loses_nothing_that_is_still_there() {
    let mut log = Writer::new();
    let mut reader = growing(&log);
    log.out("1");
    assert_eq!(text(&mut reader), "1");
    // More was written to the file that is read before the next one was begun.
    log.out("2");
    log.rotate();
    log.out("3");
    log.rotate();
    log.out("4");
    // Even a file that is thrown away is read to its end by who has it open.
    log.forget();
    assert!(reader.renew(log.open()).unwrap());
    assert_eq!(text(&mut reader), "234");
    assert!(!reader.renew(log.open()).unwrap());
}

#[test]
fn a_slow_reader_has_a_gap() {
    let mut log = Writer::new();
    let mut reader = growing(&log);
    log.out("1");
    for number in 2..=9 {
        log.rotate();
        log.out(&number.to_string());
    }
    log.files.drain(..7);
    assert!(reader.renew(log.open()).unwrap());
    assert_eq!(text(&mut reader), "189");
}

#[test]
fn the_end_of_a_growing_log() {
    for (lines, wanted) in [(0, "3\n"), (1, "2\n3\n")] {
        let mut log = Writer::new();
        log.out("1\n2\n");
        let mut reader = growing(&log);
        reader.keep_last_lines(lines).unwrap();
        let before = text(&mut reader);
        log.out("3\n");
        assert_eq!(before + &text(&mut reader), wanted);
    }
}
