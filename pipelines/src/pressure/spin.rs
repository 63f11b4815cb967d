//! Work that keeps a processor busy: so many turns of arithmetic, so that whoever is interrupted has
//! as much left as before, which a loop that looks at the clock has not.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const STRETCHES: usize = 150;
const STRETCH: Duration = Duration::from_millis(1);
/// Between two looks at the clock.
const TURNS: u64 = 500;

/// Works that many turns.
pub(crate) fn spin(turns: u64) {
    let mut state = 1_u64;
    for _ in 0..turns {
        state = black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    }
    black_box(state);
}

/// As many turns as take that long on a processor that does nothing else. It is measured once: by the
/// fastest of many short stretches, because others on the machine take from each, and none gives.
pub(crate) fn turns(ns: f64) -> u64 {
    static TURNS_PER_NS: OnceLock<f64> = OnceLock::new();
    let per_ns = TURNS_PER_NS.get_or_init(|| {
        let stretch = || {
            let (start, mut turns) = (Instant::now(), 0);
            while start.elapsed() < STRETCH {
                spin(TURNS);
                turns += TURNS;
            }
            turns as f64 / start.elapsed().as_nanos() as f64
        };
        (0..STRETCHES).map(|_| stretch()).fold(0.0, f64::max)
    });
    ((ns * per_ns) as u64).max(1)
}

/// Keeps the processor busy that long, if it does nothing else.
pub(crate) fn work(ns: u64) {
    spin(turns(ns as f64));
}
