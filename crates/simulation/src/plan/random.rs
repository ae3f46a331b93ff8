//! Random plans, each from a seed.

use std::time::Duration;

use fastrand::Rng;
use terrace_core::{Level, policy::Coalesce};

use super::{Act, Fault, Limits, LoaderPace, Plan, Stack, Staleness, Step, Trouble, Way, Weather};

impl Plan {
    /// A random plan of a random stack.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let stack = random_stack(&mut rng);
        Self::random(seed, stack, &mut rng)
    }

    /// A random plan for a stack.
    pub fn of_stack(seed: u64, stack: Stack) -> Self {
        Self::random(seed, stack, &mut Rng::with_seed(seed))
    }

    fn random(seed: u64, stack: Stack, rng: &mut Rng) -> Self {
        if stack.waits() && rng.u8(..3) == 0 {
            return Self::herd(seed, stack, rng);
        }
        let processes = rng.usize(2..=3);
        let keys = rng.u64(2..=6);
        let longest = if stack.log || stack.waits() { 2_500 } else { 1_500 };
        let length = rng.u64(300..longest);
        let twice = if rng.bool() { 0 } else { 300 };
        let weather = match rng.u8(..4) {
            0 => Weather::FAIR,
            1 => Weather { lost: 0, stuck: 0, slow: 300, twice },
            2 => Weather { lost: 5, stuck: 20, slow: 200, twice },
            _ => Weather { lost: 30, stuck: 60, slow: 200, twice },
        };
        let (steps, faults) = (vec![], vec![]);
        let (calm_from, limits) = (None, Limits::default());
        let mut plan =
            Self { seed, stack, processes, keys, length, weather, steps, faults, calm_from, limits };
        let density = if stack.is_linear() { 0 } else { rng.u64(3..12) };
        for at in 0..length {
            for _ in 0..rng.u64(0..=(density * processes as u64).max(1)) {
                let slot = rng.usize(..processes);
                let act = plan.random_act(slot, rng);
                let level = plan.random_level(rng);
                plan.steps.push(Step { at, slot, act, level });
            }
        }
        let troubles = if rng.u8(..5) == 0 { 0 } else { length / rng.u64(20..200) };
        let mut times: Vec<u64> = (0..troubles).map(|_| rng.u64(..length)).collect();
        times.sort_unstable();
        plan.faults = times.into_iter().filter_map(|at| plan.random_fault(at, rng)).collect();
        plan
    }

    /// Processes that miss the same keys at the same time, where only crashes and evictions interfere: each
    /// key is loaded once, and once more for each crash, eviction and failed load.
    fn herd(seed: u64, stack: Stack, rng: &mut Rng) -> Self {
        let (processes, keys, length) = (rng.usize(2..=6), rng.u64(1..=4), rng.u64(1_000..4_000));
        let stack = Stack {
            fussy: false,
            picky: false,
            life: LONG,
            near_life: None,
            negative: Duration::ZERO,
            stale: Duration::ZERO,
            // A copy that only its age proves lives no longer than the bound.
            level: match stack.level {
                Level::Bounded(_) if !stack.store => Level::Fenced,
                level => level,
            },
            ..stack
        };
        let troubles = if rng.bool() { 0 } else { rng.u64(1..6) };
        // A caller that waits for a holder that fails or falls silent, and then for a slow load, stays within
        // one deadline: a caller whose wait outlasts its deadline loads for itself, and the key is loaded again.
        let slowest = if troubles == 0 { 2_000 } else { 500 };
        let mut steps = Vec::new();
        // Calls begin after the first relay, which clears all copies when it starts.
        let mut at = 100;
        while at < length - 500 {
            let (key, slow) = (rng.u64(..keys), rng.u8(..4) == 0);
            for slot in 0..processes {
                if rng.u8(..4) == 0 {
                    continue;
                }
                let millis = if slow { rng.u64(..slowest) } else { rng.u64(..100) };
                let act = match rng.u8(..16) {
                    0 => Act::Load(key, LoaderPace::Fails(millis / 20)),
                    1 => Act::Get(key),
                    _ => Act::Load(key, LoaderPace::Early(millis)),
                };
                steps.push(Step { at, slot, act, level: None });
                at += rng.u64(..3);
            }
            at += rng.u64(..300);
        }
        let mut faults: Vec<Fault> = (0..troubles)
            .map(|_| {
                let what = match rng.bool() {
                    true => Trouble::Crash(rng.usize(..processes), rng.u64(1..1_000)),
                    false => Trouble::Evict(rng.usize(..stack.tiers), rng.u64(..keys)),
                };
                Fault { at: rng.u64(100..length), what }
            })
            .collect();
        faults.sort_by_key(|fault| fault.at);
        let fails =
            steps.iter().filter(|step| matches!(step.act, Act::Load(_, LoaderPace::Fails(_)))).count();
        let limits = Limits { loads: Some(1 + troubles + fails as u64), call: None };
        let (weather, calm_from) = (Weather::FAIR, None);
        Self { seed, stack, processes, keys, length, weather, steps, faults, calm_from, limits }
    }

    fn random_act(&self, slot: usize, rng: &mut Rng) -> Act {
        let any = rng.u64(..self.keys);
        let to = rng.u64(any..self.keys) + 1;
        let pace = match rng.u8(..20) {
            0 => LoaderPace::Fails(rng.u64(..20)),
            1 | 2 if self.stack.waits() => LoaderPace::Early(rng.u64(..1_500)),
            1..10 => LoaderPace::Early(rng.u64(..60)),
            _ => LoaderPace::Late(rng.u64(..20)),
        };
        let fenced = self.stack.level != Level::Ttl;
        // A process owns the keys that are its slot, modulo the number of processes.
        let owned = any - any % self.processes as u64 + slot as u64;
        let key = if self.stack.store || owned >= self.keys { any } else { owned };
        let linear = self.stack.is_linear();
        let writes = if linear { 400 } else { 40 };
        match rng.u16(..1_000) {
            chance if chance < writes => match rng.u8(..20) {
                0..7 => Act::Put(key),
                7..9 if fenced => Act::PutIfAbsent(key),
                9..11 if fenced => Act::Replace(key),
                11..16 if !linear => Act::Invalidate(key),
                16..18 => Act::Remove(key),
                18 if !linear => Act::InvalidateMany(any, to),
                _ if !linear && rng.u8(..4) == 0 => Act::Clear,
                _ if !linear && !self.ages() && rng.u8(..2) == 0 => Act::Expire(any, rng.u64(20..2_000)),
                _ => Act::Put(key),
            },
            400..600 if linear => Act::Load(any, pace),
            _ if linear => Act::Get(any),
            40..60 => Act::Forget(any),
            60..70 => Act::Refresh(any, pace),
            70..110 => Act::GetMany(any, to),
            110..140 => Act::LoadMany(any, to, pace),
            140..340 => Act::Load(any, pace),
            _ => Act::Get(any),
        }
    }

    /// One read in eight uses a handle of another level.
    fn random_level(&self, rng: &mut Rng) -> Option<Level> {
        let other = rng.u8(..8) == 0;
        other.then(|| match rng.u8(..4) {
            0 => Level::Ttl,
            1 => Level::Fenced,
            2 => Level::Bounded(Duration::from_millis(rng.u64(100..1_200))),
            _ => Level::Strong,
        })
    }

    /// Whether copies are proven by their age alone.
    fn ages(&self) -> bool {
        matches!(self.stack.level, Level::Bounded(_)) && !self.stack.store
    }

    fn random_fault(&self, at: u64, rng: &mut Rng) -> Option<Fault> {
        let slot = rng.usize(..self.processes);
        let server = rng.usize(..self.stack.servers());
        let cache = server.min(self.stack.tiers.saturating_sub(1));
        let way = if rng.bool() { Way::There } else { Way::Back };
        let kinds = 20 + if self.stack.log { 6 } else { 0 };
        let foreign = self.stack.outbox && rng.u8(..8) == 0;
        let loses_watermark = self.stack.outbox && rng.u8(..32) == 0;
        let what = match rng.u8(..kinds) {
            _ if foreign => Trouble::Foreign(rng.u64(..self.keys)),
            _ if loses_watermark => Trouble::LoseWatermark(0),
            20..24 => Trouble::CutLog(slot, 0, rng.u64(20..2_000)),
            24 => Trouble::Trim(0),
            25 => Trouble::Save(0),
            0 if self.stack.waits() => Trouble::Pause(slot, rng.u64(400..2_000)),
            0..4 => Trouble::Pause(slot, rng.u64(2..400)),
            4..6 => Trouble::Crash(slot, rng.u64(1..100)),
            6..9 => Trouble::Cut(slot, server, way, rng.u64(5..300)),
            9 => Trouble::Down(server, rng.u64(5..300)),
            10..12 => Trouble::Slow(slot, server, way, rng.u64(5..200), rng.u64(1..100)),
            12..16 => Trouble::Evict(cache, rng.u64(..self.keys)),
            16 => Trouble::ClockBehind(cache, rng.u64(1..5_000)),
            17 => Trouble::Flush(cache),
            18 => Trouble::Save(cache),
            _ => Trouble::GoBack(cache),
        };
        let of_tier = matches!(
            what,
            Trouble::Evict(..)
                | Trouble::LoseWatermark(_)
                | Trouble::Flush(_)
                | Trouble::Save(_)
                | Trouble::ClockBehind(..)
                | Trouble::GoBack(_)
        );
        (!of_tier || self.stack.tiers > 0).then_some(Fault { at, what })
    }
}

/// Longer than any plan.
const LONG: Duration = Duration::from_secs(60);

fn random_stack(rng: &mut Rng) -> Stack {
    let (store, tiers) = match rng.u8(..10) {
        0..4 => (false, 1),
        4..6 => (false, 2),
        6..8 => (true, 1),
        8 => (true, 2),
        _ => (true, 0),
    };
    let short = |rng: &mut Rng| Duration::from_millis(rng.u64(50..2_000));
    // Lives end within a plan, so that copies become stale.
    let stale = if rng.bool() { Duration::ZERO } else { short(rng) };
    let life = if stale.is_zero() { short(rng) } else { Duration::from_millis(rng.u64(10..300)) };
    let bound = Duration::from_millis(rng.u64(100..1_200));
    let level = match (store, tiers, rng.u8(..10)) {
        (false, _, 0..2) => Level::Ttl,
        (false, _, 2) => Level::Bounded(life.max(Duration::from_millis(100))),
        (true, _, 0) => Level::Strong,
        (true, 0 | 1, 1..4) => Level::Bounded(bound),
        _ => Level::Fenced,
    };
    let (relayed, log) = (rng.bool(), level != Level::Ttl && rng.u8(..3) > 0);
    // The relay's watermark proves the copies of a cache tier.
    let proven = matches!(level, Level::Bounded(_)) && store && tiers > 0;
    Stack {
        level,
        outbox: store && (relayed || proven),
        log: log || proven,
        near: rng.u8(..4) > 0 && !(store && tiers == 0 && rng.bool()),
        tiers,
        store,
        fussy: rng.u8(..6) == 0,
        picky: rng.u8(..6) == 0,
        stampede: match rng.u8(..8) {
            _ if tiers == 0 => Coalesce::Nobody,
            0 => Coalesce::Nobody,
            1 => Coalesce::Lease,
            2 => Coalesce::LeaseOrStale,
            _ => Coalesce::Local,
        },
        life,
        near_life: rng.bool().then(|| short(rng)),
        stale,
        freshness: Staleness { while_revalidate: rng.bool(), if_error: rng.bool() },
        negative: if rng.bool() { Duration::ZERO } else { Duration::from_millis(rng.u64(10..100)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOAD;

    /// How long a holder that crashed counts as alive, and the time until those who wait see it.
    const SILENCE: u64 = 1_300;

    #[test]
    fn nobody_in_a_herd_waits_longer_than_a_deadline() {
        let mut herds = 0;
        for plan in (0..4_000).map(Plan::of_seed).filter(|plan| plan.limits.loads.is_some()) {
            herds += 1;
            let (mut fails, mut slowest) = (0, 0);
            for step in &plan.steps {
                match step.act {
                    Act::Load(_, LoaderPace::Fails(millis)) => fails = fails.max(millis),
                    Act::Load(_, LoaderPace::Early(millis)) => slowest = slowest.max(millis),
                    _ => {}
                }
            }
            let crashes = plan.faults.iter().any(|fault| matches!(fault.what, Trouble::Crash(..)));
            let lost = if crashes { slowest + SILENCE } else { 0 };
            let wait = Duration::from_millis(fails + lost + slowest);
            assert!(wait < LOAD, "seed {}: {wait:?}", plan.seed);
        }
        assert!(herds > 100, "{herds} herds");
    }
}
