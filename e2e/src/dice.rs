//! Chance that can be repeated: the same course in every run unless `E2E_SEED` and `E2E_ROUNDS` say otherwise.

/// A linear congruence; good enough to vary bytes, and the same everywhere.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// With this seed, to which `E2E_SEED` is added when it is set.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(variable("E2E_SEED").unwrap_or_default().wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number below `n`.
    pub fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % n
    }

    /// Changes, inserts, removes or repeats a few bytes; new ones come from `odd`.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, odd: &[u8]) {
        for _ in 0..=self.roll(3) {
            let (at, new) = (self.roll(bytes.len()), odd.get(self.roll(odd.len())).copied().unwrap_or_default());
            match self.roll(4) {
                0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = new),
                1 => bytes.insert(at, new),
                2 if bytes.len() > 1 => {
                    bytes.remove(at);
                }
                _ => {
                    let end = (at + self.roll(30)).min(bytes.len());
                    let part = bytes.get(at..end).unwrap_or_default().to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
    }
}

/// How often to try: `default`, or `E2E_ROUNDS` when it is set.
pub fn rounds(default: usize) -> usize {
    variable("E2E_ROUNDS").and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
