//! However the network splits a stream, the events that a record is made of are the same.
//!
//! `CALLTAP_SPLITS` says how many random splits are tried over all streams together.

use super::{corpus_tests::recorded_streams, sse};

/// Random splits of a usual run.
const SPLITS: usize = 4000;
/// Longest stream that is split at every byte, in bytes.
const SHORT: usize = 4096;
/// Most pieces of a random split.
const PIECES: u64 = 40;

/// Streams of our own, so that something is split where no recordings are.
const OWN: &[&str] = &[
    "\u{FEFF}data: {\"a\":\"😀é\u{2028}\"}\r\n\r\n: comment\r\ndata: 1\rdata:2\r\revent: x\ndata: 3\n\n",
    "event: a\r\ndata: {\r\ndata: }\r\n\r\n\r\n\ndata:  two spaces\n\ndata\n\ndata: \u{FEFF}\n\ndata: tail",
];

#[derive(Debug, PartialEq)]
struct Seen {
    name: Vec<u8>,
    data: Vec<u8>,
    end: u64,
    complete: bool,
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, (u64, u64)) {
    let (mut decoder, mut seen) = (sse::Decoder::default(), Vec::new());
    let mut each = |event: sse::Event<'_>| {
        let (name, data) = (event.name.to_vec(), event.data.to_vec());
        seen.push(Seen { name, data, end: event.end, complete: event.complete });
    };
    pieces.for_each(|piece| decoder.push(piece, &mut each));
    let counts = decoder.finish(&mut each);
    (seen, counts)
}

/// A small generator with a seed: what fails once fails again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

fn pieces<'a>(body: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([body.len()]);
    starts.zip(ends).map(|(start, end)| &body[start..end])
}

#[test]
fn any_split_gives_the_same_events() {
    let own =
        OWN.iter().enumerate().map(|(at, body)| (format!("own {at}"), body.as_bytes().to_vec()));
    let streams: Vec<(String, Vec<u8>)> = own.chain(recorded_streams()).collect();
    let splits = std::env::var("CALLTAP_SPLITS").map_or(SPLITS, |count| count.parse().unwrap());
    let whole: Vec<_> =
        streams.iter().map(|(_, body)| decode(std::iter::once(&body[..]))).collect();
    let mut two_way = 0_u64;
    for ((name, body), whole) in
        streams.iter().zip(&whole).filter(|((_, body), _)| body.len() <= SHORT)
    {
        for cut in 0..=body.len() {
            assert_eq!(&decode(pieces(body, &[cut])), whole, "{name} cut at {cut}");
            two_way += 1;
        }
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..splits {
        let at = round % streams.len();
        let (name, body) = &streams[at];
        let end = u64::try_from(body.len()).unwrap() + 1;
        let count = random.below(PIECES);
        let mut cuts: Vec<usize> =
            (0..count).map(|_| usize::try_from(random.below(end)).unwrap()).collect();
        cuts.sort_unstable();
        assert_eq!(decode(pieces(body, &cuts)), whole[at], "{name} cut at {cuts:?}");
    }
    println!("{} streams, {two_way} splits in two, {splits} random splits", streams.len());
}
