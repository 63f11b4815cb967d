//! The files by themselves: what is in them, whatever is wrong with them.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;

use super::cursor::{Cursor, Entry};
use super::error::Damage;
use super::files::{Batch, Files};
use super::format::{self, FILE_HEAD, HEAD};
use super::place::{Place, Segment, recover};
use super::scanner::{Item, Scanner};
use super::settled::{DiskPosition, Settled};
use super::shared::Shared;
use super::{DiskError, SyncPolicy};
use crate::chunk::Meta;

fn record(value: &[u8]) -> Vec<u8> {
    format::record(&Meta::default(), value).unwrap()
}

fn batch(values: &[&[u8]]) -> Batch {
    Batch {
        records: values.iter().map(|value| record(value)).collect(),
        ..Batch::default()
    }
}

fn files(folder: &tempfile::TempDir, segment_bytes: u64) -> (Arc<Place>, Files) {
    let place = Arc::new(Place::take(folder.path()).unwrap());
    let found = recover(&place).unwrap();
    let files = Files::new(Arc::clone(&place), &found, segment_bytes, SyncPolicy::Each);
    (place, files)
}

/// A file of records with these values, from number 0 on.
fn file(values: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut files) = files(&folder, u64::MAX);
    let wrote = files.write(batch(values)).unwrap();
    (folder, wrote.segments[0].path.to_path_buf())
}

/// A file of the records from number 0 to that one, as it lies there.
fn segment(path: &Path, next: u64) -> Segment {
    Segment {
        first: 0,
        next,
        path: Arc::from(path),
        len: fs::metadata(path).unwrap().len(),
    }
}

/// From where to where, what is wrong, and how many records were there.
type Hole = (u64, u64, Damage, u64);

/// What is read of a file: values, and the places that are damaged.
fn read(path: &Path, next: u64) -> (Vec<Vec<u8>>, Vec<Hole>) {
    let segment = segment(path, next);
    let len = segment.len;
    let mut cursor = Cursor::open(segment, 0, 0).unwrap();
    let (mut values, mut damages) = (Vec::new(), Vec::new());
    let mut end = 0;
    for entry in cursor.read(usize::MAX, u64::MAX).unwrap() {
        let position = entry.position();
        match entry {
            Entry::Record { body, offset, .. } => {
                assert!(offset >= end);
                values.push(format::open(body).unwrap().1.to_vec());
            }
            Entry::Damaged { offset, what, .. } => {
                let records = position.next - position.number;
                damages.push((offset, position.end, what, records));
            }
        }
        end = position.end;
    }
    assert_eq!(cursor.position().end, len, "all of it is accounted for");
    assert_eq!(cursor.position().next, next);
    (values, damages)
}

#[test]
fn records_larger_than_a_block_are_read() {
    let large = vec![7; 300_000];
    let (_folder, path) = file(&[b"a", &large, b"", &large, b"b"]);
    let (values, damages) = read(&path, 5);
    assert_eq!(damages, []);
    assert_eq!(
        values,
        [b"a".to_vec(), large.clone(), vec![], large, b"b".to_vec()]
    );
}

#[test]
fn every_flipped_bit_costs_at_most_its_record() {
    let values: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];
    let (_folder, path) = file(&values);
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // The version of the format is another matter: see the tests of the buffer.
        let is_version = (FILE_HEAD.len() - 2..FILE_HEAD.len() - 1).contains(&(bit / 8));
        if is_version {
            continue;
        }
        fs::write(&path, bad).unwrap();
        let (read, damages) = read(&path, 5);
        assert_eq!(damages.len(), 1, "bit {bit}");
        let lost = damages[0].3 as usize;
        assert_eq!(read.len() + lost, values.len(), "bit {bit}");
        assert!(lost <= 1, "bit {bit}");
        let in_head = bit / 8 < FILE_HEAD.len();
        assert_eq!(lost, usize::from(!in_head), "bit {bit}");
        assert!(read.iter().all(|value| values.contains(&&value[..])));
    }
}

#[test]
fn a_record_within_a_value_is_no_record() {
    let mut inner = record(b"inner");
    format::seal(&mut inner, 77);
    let (_folder, path) = file(&[b"a", &inner, b"b"]);
    assert_eq!(
        read(&path, 3),
        (vec![b"a".to_vec(), inner, b"b".to_vec()], vec![])
    );
}

#[test]
fn a_head_that_promises_more_than_there_is_is_passed_over() {
    let (_folder, path) = file(&[b"a", b"b", b"c"]);
    let mut bytes = fs::read(&path).unwrap();
    // A whole head, of a record that would reach beyond the end.
    let mut long = record(&[0; 1000]);
    format::seal(&mut long, 1);
    let at = FILE_HEAD.len() + HEAD + 2;
    bytes[at..at + HEAD].copy_from_slice(&long[..HEAD]);
    fs::write(&path, bytes).unwrap();
    let (values, damages) = read(&path, 3);
    assert_eq!(values, [b"a", b"c"]);
    let end = (at + HEAD + 2) as u64;
    assert_eq!(damages, [(at as u64, end, Damage::NoRecord, 1)]);
}

#[test]
fn a_reader_follows_a_file_that_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut files) = files(&folder, u64::MAX);
    let first = files.write(batch(&[b"a"])).unwrap().segments.remove(0);
    let mut cursor = Cursor::open(first, 0, 0).unwrap();
    let mut seen = Vec::new();
    for value in [&b""[..], b"b", b"c"] {
        if !value.is_empty() {
            let grown = files.write(batch(&[value])).unwrap().segments.remove(0);
            cursor.reach(grown);
        }
        for entry in cursor.read(100, 1 << 20).unwrap() {
            let Entry::Record { body, .. } = entry else {
                panic!("{entry:?}");
            };
            seen.push(format::open(body).unwrap().1.to_vec());
        }
    }
    assert_eq!(seen, [b"a", b"b", b"c"]);
}

#[test]
fn files_are_begun_as_they_get_full_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let size = record(b"x").len() as u64;
    let (place, mut first) = files(&folder, FILE_HEAD.len() as u64 + 2 * size);
    let wrote = first.write(batch(&[b"a", b"b", b"c", b"d", b"e"])).unwrap();
    assert_eq!(wrote.next, 5);
    let firsts: Vec<_> = wrote.segments.iter().map(|segment| segment.first).collect();
    assert_eq!(firsts, [0, 2, 4]);
    drop((place, first));
    let (place, mut again) = files(&folder, FILE_HEAD.len() as u64 + 2 * size);
    let found = recover(&place).unwrap();
    assert_eq!((found.next, found.recovered.items), (5, 5));
    let wrote = again.write(batch(&[b"f", b"g"])).unwrap();
    let nexts: Vec<_> = wrote.segments.iter().map(|segment| segment.next).collect();
    assert_eq!(nexts, [6, 7], "the newest file is filled first");
}

#[test]
fn beginning_anew_leaves_one_file_and_the_position() {
    let folder = tempfile::tempdir().unwrap();
    let (place, mut files) = files(&folder, 1);
    files.write(batch(&[b"a", b"b"])).unwrap();
    let mut settled = Settled::default();
    settled.base.next = 2;
    let wrote = files
        .write(Batch {
            anew: Some(settled),
            ..batch(&[b"c"])
        })
        .unwrap();
    assert!(wrote.anew);
    let found = recover(&place).unwrap();
    let firsts: Vec<_> = found.segments.iter().map(|each| each.first).collect();
    assert_eq!((firsts, found.recovered.items), (vec![2], 1));
}

#[test]
fn a_reader_takes_no_more_bytes_at_once_than_it_was_asked_for() {
    let (_folder, path) = file(&[b"a", b"b", b"c", b"d"]);
    let size = record(b"x").len() as u64;
    let mut cursor = Cursor::open(segment(&path, 4), 0, 0).unwrap();
    cursor.read(1, u64::MAX).unwrap();
    // Wherever it stands in the file.
    let counts = [size, size + 1].map(|bytes| cursor.read(9, bytes).unwrap().len());
    assert_eq!(counts, [1, 2]);
}

#[test]
fn a_position_that_was_passed_is_not_saved_again() {
    let folder = tempfile::tempdir().unwrap();
    let (place, _files) = files(&folder, u64::MAX);
    for (next, saved) in [(7, 7), (3, 7), (8, 8)] {
        let mut settled = Settled::default();
        settled.base.next = next;
        place.save(&settled, false).unwrap();
        let found = Settled::read(folder.path()).unwrap().0.unwrap();
        assert_eq!(found.base.next, saved);
    }
}

#[test]
fn what_is_settled_is_to_be_saved_once() {
    let folder = tempfile::tempdir().unwrap();
    let (place, mut files) = files(&folder, u64::MAX);
    let found = recover(&place).unwrap();
    let shared = Shared::new(place, found);
    let is_unsaved = || shared.keeps(Waker::noop()).0;
    for number in 1..=3 {
        shared.wrote(files.write(batch(&[b"a"])).unwrap(), 1);
        assert_eq!(shared.snapshot().written, number);
    }
    assert!(!is_unsaved());
    let base = DiskPosition::default();
    let above = Settled {
        base,
        done: vec![Range { start: 1, end: 2 }],
    };
    shared.settle(base, Some(above.clone()));
    assert_eq!(shared.lock().settled(), &above);
    assert_eq!(shared.snapshot().items, 2);
    assert!(is_unsaved());
    shared.save(false).unwrap();
    assert!(!is_unsaved());
    shared.settle(base, Some(above));
    assert!(!is_unsaved(), "nothing is new");
    shared.settle(DiskPosition { next: 1, ..base }, None);
    assert!(is_unsaved());
}

#[test]
fn files_that_are_settled_are_removed_when_they_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (place, mut files) = files(&folder, 1);
    files.write(batch(&[b"a", b"b", b"c", b"d"])).unwrap();
    let mut settled = Settled::default();
    settled.base.next = 3;
    place.save(&settled, false).unwrap();
    let found = recover(&place).unwrap();
    let firsts: Vec<_> = found.segments.iter().map(|each| each.first).collect();
    assert_eq!((firsts, found.recovered.items), (vec![3], 1));
    assert_eq!(place.list().unwrap().len(), 1);
    // The newest stays, whatever is settled: numbers go on behind it.
    settled.base.next = 4;
    place.save(&settled, false).unwrap();
    assert_eq!(recover(&place).unwrap().segments.len(), 1);
}

#[test]
fn a_write_that_fails_is_told_with_the_file_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (place, mut files) = files(&folder, u64::MAX);
    files.write(batch(&[b"a"])).unwrap();
    let path = place.file(0);
    let before = fs::read(&path).unwrap();
    files.break_for_test(OpenOptions::new().read(true).open(&path).unwrap());
    let error = files.write(batch(&[b"b"])).unwrap_err();
    let DiskError::Io {
        doing, path: at, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*doing, at), ("write", &path));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn what_a_machine_without_power_left_is_cut_off() {
    // Zeros where the length was written and the bytes were not.
    let (folder, path) = file(&[b"a", b"b"]);
    let whole = fs::metadata(&path).unwrap().len();
    for zeros in [1, 23, 24, 100_000] {
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&vec![0; zeros]).unwrap();
        let place = Place::take(folder.path()).unwrap();
        let found = recover(&place).unwrap();
        assert_eq!(found.recovered.cut_bytes, zeros as u64);
        assert_eq!(found.recovered.cut_at, Some((path.clone(), whole)));
        assert_eq!(found.next, 2);
    }
}

#[test]
fn an_empty_file_and_a_torn_head_are_begun_again() {
    for left in [&b""[..], b"fore"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{:020}.records", 5));
        fs::write(&path, left).unwrap();
        let (place, mut files) = files(&folder, u64::MAX);
        files.write(batch(&[b"a"])).unwrap();
        let mut scanner = Scanner::open(&path, 0, fs::metadata(&path).unwrap().len()).unwrap();
        assert!(matches!(
            scanner.next().unwrap(),
            Item::Record { number: 5, .. }
        ));
        assert_eq!(recover(&place).unwrap().recovered.items, 1);
    }
}
