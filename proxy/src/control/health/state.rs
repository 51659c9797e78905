//! Up or down, by the results of probes: a pure function of them and of time.

use std::time::{Duration, Instant};

use admin_api::{HealthSpec, OnSilence, Period};

use crate::table::endpoint::{ProbeError, ProbeErrorKind};
use crate::table::probes::Suspicion;

/// The longest interval of an endpoint that has never been up: a rollout waits for it. And of one
/// whose connections are refused, for the first time: its clients wait.
pub(super) const QUICK_INTERVAL: Duration = Duration::from_millis(200);
/// How long an endpoint whose connections are refused is probed that often.
const QUICK_FOR: Duration = Duration::from_secs(10);

/// Up or down, and how many probes in a row have said otherwise.
pub(super) struct State {
    pub(super) up: bool,
    streak: u32,
    /// When the first of them began.
    since: Instant,
}

impl State {
    pub(super) fn new(up: bool, now: Instant) -> Self {
        Self {
            up,
            streak: 0,
            since: now,
        }
    }

    /// Takes in the result of one probe, which began at `now`. Gives the new state where it
    /// changed.
    pub(super) fn next(&mut self, success: bool, now: Instant, spec: &HealthSpec) -> Option<bool> {
        if success == self.up {
            self.streak = 0;
            return None;
        }
        if self.streak == 0 {
            self.since = now;
        }
        self.streak = self.streak.saturating_add(1);
        let lasted = now.saturating_duration_since(self.since);
        let enough = if success {
            self.streak >= spec.rise && lasted >= spec.min_healthy_time.get()
        } else {
            self.streak >= spec.fall
        };
        if !enough {
            return None;
        }
        *self = Self::new(success, now);
        Some(success)
    }

    /// Takes in that nothing listens at the address, as a request and a probe that began at `now`
    /// have found, each for itself. Gives the new state where it changed.
    pub(super) fn take_down(&mut self, now: Instant) -> Option<bool> {
        let before = std::mem::replace(self, Self::new(false, now));
        before.up.then_some(false)
    }
}

/// What a probe and the requests since the one before say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Both found that nothing listens at the address.
    Gone,
    /// Both failed, and one of them found that.
    Doubtful,
    /// Neither of these.
    None,
}

impl Agreement {
    pub(super) fn of(result: &ProbeResult, suspicion: Option<Suspicion>) -> Self {
        let (Err(error), Some(suspicion)) = (result, suspicion) else {
            return Self::None;
        };
        match (error.kind, suspicion) {
            (ProbeErrorKind::Refused, Suspicion::Refused) => Self::Gone,
            (ProbeErrorKind::Refused, _) | (_, Suspicion::Refused) => Self::Doubtful,
            _ => Self::None,
        }
    }
}

/// How often an endpoint is probed.
pub(super) struct Pace {
    was_up: bool,
    quick_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(was_up: bool) -> Self {
        Self {
            was_up,
            quick_until: None,
        }
    }

    /// Takes in what came of a probe that began at `now`, after which the endpoint `is_up` or not.
    pub(super) fn next(&mut self, is_up: bool, agreement: Agreement, now: Instant) {
        self.was_up |= is_up;
        if agreement != Agreement::None {
            self.quick_until = Some(now + QUICK_FOR);
        }
    }

    /// From the start of a probe at `now` to the start of the next; `random` is below 1.
    pub(super) fn pause(&self, spec: &HealthSpec, now: Instant, random: f64) -> Duration {
        let interval = spec.interval.get();
        let jitter = spec.jitter.map_or(interval / 10, Period::get);
        let pause = interval + jitter.mul_f64(random);
        if self.was_up && self.quick_until.is_none_or(|until| until <= now) {
            pause
        } else {
            pause.min(QUICK_INTERVAL)
        }
    }
}

pub(super) type ProbeResult = Result<(), ProbeError>;

/// How many probes in a row got nothing back from an endpoint.
#[derive(Default)]
pub(super) struct Silence(u32);

impl Silence {
    /// Takes in the result of one probe, and whether requests `had_responses` since the probe before.
    /// Gives whether what waits for a response of the endpoint is to wait no longer.
    pub(super) fn next(
        &mut self,
        result: &ProbeResult,
        had_responses: bool,
        spec: &HealthSpec,
    ) -> bool {
        self.0 = match result {
            Err(error) if error.kind == ProbeErrorKind::Silent => self.0.saturating_add(1),
            _ => 0,
        };
        self.0 >= spec.fall && !had_responses && spec.on_silence == OnSilence::Cut
    }
}

/// Good responses of an endpoint to requests, up to its last probe. One that is too busy for its
/// probes, or was back too late for the last of them, may well respond to requests.
pub(super) struct GoodResponses(u64);

impl GoodResponses {
    pub(super) fn new(count: u64) -> Self {
        Self(count)
    }

    /// Takes in how many there are by now. Gives whether any of them came since the probe before.
    pub(super) fn any_since(&mut self, count: u64) -> bool {
        std::mem::replace(&mut self.0, count) != count
    }
}

/// Whether nothing comes back from the endpoint, neither to its probe nor to requests.
pub(super) fn is_unreachable(result: &ProbeResult, had_responses: bool) -> bool {
    let got_nothing = |error: &ProbeError| error.kind != ProbeErrorKind::Response;
    result.as_ref().is_err_and(got_nothing) && !had_responses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: ProbeErrorKind) -> ProbeResult {
        let reason = String::new();
        Err(ProbeError { kind, reason })
    }

    #[test]
    fn an_endpoint_is_gone_when_a_request_and_a_probe_were_both_refused() {
        use ProbeErrorKind::{Refused, Response, Silent};
        let (broken, refused) = (Some(Suspicion::Broken), Some(Suspicion::Refused));
        for (result, suspicion, want) in [
            (failed(Refused), refused, Agreement::Gone),
            (failed(Refused), broken, Agreement::Doubtful),
            (failed(Refused), None, Agreement::None),
            (failed(Silent), refused, Agreement::Doubtful),
            (failed(Response), refused, Agreement::Doubtful),
            (failed(Silent), broken, Agreement::None),
            (failed(Response), broken, Agreement::None),
            (Ok(()), refused, Agreement::None),
        ] {
            let got = Agreement::of(&result, suspicion);
            assert_eq!(got, want, "{result:?} and {suspicion:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_gone_is_down_without_further_failures_and_comes_up_as_any_other() {
        let spec = HealthSpec::of_path("/");
        let now = Instant::now();
        let mut state = State::new(true, now);
        assert_eq!(state.take_down(now), Some(false));
        assert_eq!(state.next(true, now, &spec), None);
        assert_eq!(state.take_down(now), None, "it is down already");
        assert_eq!(state.next(true, now, &spec), None);
        assert_eq!(state.next(true, now, &spec), Some(true));
    }

    #[test]
    fn probes_are_jittered_and_follow_each_other_soon_where_they_are_waited_for() {
        let spec = HealthSpec::of_path("/");
        let now = Instant::now();
        let millis = |pace: &Pace, at, random| pace.pause(&spec, at, random).as_millis();
        let mut pace = Pace::new(false);
        pace.next(false, Agreement::None, now);
        assert_eq!(millis(&pace, now, 0.5), 200, "it has never been up");
        pace.next(true, Agreement::None, now);
        assert_eq!(millis(&pace, now, 0.0), 1_000);
        assert_eq!(millis(&pace, now, 0.5), 1_050);
        for agreement in [Agreement::Doubtful, Agreement::Gone] {
            pace.next(false, agreement, now);
            let last = now + QUICK_FOR - Duration::from_millis(1);
            assert_eq!(millis(&pace, last, 0.5), 200, "{agreement:?}");
            assert_eq!(millis(&pace, now + QUICK_FOR, 0.5), 1_050, "{agreement:?}");
        }
    }

    #[test]
    fn an_endpoint_is_silent_after_fall_probes_in_a_row_that_got_nothing_back() {
        use ProbeErrorKind::{Refused, Response, Silent};
        let (busy, idle) = (true, false);
        let probes = [
            (failed(Silent), idle, false),
            (failed(Silent), idle, true),
            (failed(Silent), idle, true),
            // It came back too late for this probe.
            (failed(Silent), busy, false),
            (failed(Silent), idle, true),
            (failed(Response), idle, false),
            (failed(Silent), idle, false),
            (failed(Refused), idle, false),
            (failed(Silent), idle, false),
            (Ok(()), idle, false),
            // It froze after a response.
            (failed(Silent), busy, false),
            (failed(Silent), idle, true),
        ];
        for on_silence in [OnSilence::Cut, OnSilence::Wait] {
            let spec = HealthSpec {
                fall: 2,
                on_silence,
                ..HealthSpec::of_path("/")
            };
            let mut silence = Silence::default();
            for (i, (result, had_responses, is_silent)) in probes.iter().enumerate() {
                let want = *is_silent && on_silence == OnSilence::Cut;
                assert_eq!(
                    silence.next(result, *had_responses, &spec),
                    want,
                    "probe {i}, {on_silence:?}"
                );
            }
        }
    }

    #[test]
    fn an_endpoint_is_unreachable_while_neither_probes_nor_requests_get_anything_back() {
        use ProbeErrorKind::{Refused, Response, Silent};
        let mut good = GoodResponses::new(7);
        for (i, (result, count, want)) in [
            (Ok(()), 7, false),
            (failed(Silent), 7, true),
            (failed(Refused), 7, true),
            (failed(Response), 7, false),
            (failed(Silent), 8, false),
            (failed(Silent), 8, true),
            (Ok(()), 9, false),
        ]
        .into_iter()
        .enumerate()
        {
            let is_unreachable = is_unreachable(&result, good.any_since(count));
            assert_eq!(is_unreachable, want, "probe {i}");
        }
    }

    /// Probes a second apart, and what each of them changes.
    #[track_caller]
    fn check(spec: &HealthSpec, probes: &[(bool, Option<bool>)]) {
        let start = Instant::now();
        let mut state = State::new(false, start);
        for (i, (success, want)) in probes.iter().enumerate() {
            let now = start + Duration::from_secs(i as u64);
            assert_eq!(state.next(*success, now, spec), *want, "probe {i}");
        }
    }

    #[test]
    fn it_takes_rise_successes_to_come_up_and_fall_failures_to_go_down() {
        let spec = HealthSpec {
            rise: 2,
            fall: 3,
            ..HealthSpec::of_path("/")
        };
        let probes = [
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
        ];
        check(&spec, &probes);
    }

    #[test]
    fn the_successes_have_to_last() {
        let spec = HealthSpec {
            rise: 1,
            min_healthy_time: Period::from_secs(3),
            ..HealthSpec::of_path("/")
        };
        let probes = [
            (true, None),
            (true, None),
            (false, None),
            (true, None),
            (true, None),
            (true, None),
            (true, Some(true)),
        ];
        check(&spec, &probes);
    }
}
