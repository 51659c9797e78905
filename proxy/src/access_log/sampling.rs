//! Which requests have a line.

use admin_api::SampleSpec;

use super::record::Record;

const STATUSES: usize = 600;
/// Every request.
const ALL: u32 = u32::MAX;

/// Which requests have a line, by their status.
#[derive(Debug)]
pub(super) enum Sampling {
    All,
    /// Of each status, how many of 2³² − 1.
    Some(Box<[u32; STATUSES]>),
}

impl Sampling {
    pub(super) fn of(sample: &SampleSpec) -> Self {
        if sample.is_default() {
            return Self::All;
        }
        let mut rates = Box::new([ALL; STATUSES]);
        for (status, rate) in rates.iter_mut().enumerate() {
            // Rounds to what is nearest, and is in range.
            *rate = (sample.rate(status as u16) * f64::from(ALL)) as u32;
        }
        Self::Some(rates)
    }

    /// Whether this request has one.
    pub(super) fn takes(&self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Some(_) if record.termination.is_broken() => true,
            Self::Some(rates) => {
                let rate = rates.get(usize::from(record.status));
                let rate = rate.copied().unwrap_or(ALL);
                rate == ALL || rand::random::<u32>() < rate
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::termination::{Phase, Termination, Who};
    use super::*;

    fn taken(sampling: &Sampling, status: u16, termination: Termination) -> usize {
        let mut record = Record::new();
        record.status = status;
        record.ended(termination);
        (0..10_000).filter(|_| sampling.takes(&record)).count()
    }

    #[test]
    fn some_of_those_that_went_well_are_taken_and_all_of_those_that_did_not() {
        let spec = admin_api::strict::from_json(br#"{"2xx":0.1,"304":0}"#).unwrap();
        let sampling = Sampling::of(&spec);
        let normal = Termination::NORMAL;
        let some = taken(&sampling, 200, normal);
        // By chance less than once in 10¹⁵ runs.
        assert!((750..1_250).contains(&some), "{some}");
        assert_eq!(taken(&sampling, 304, normal), 0);
        assert_eq!(taken(&sampling, 404, normal), 10_000);
        assert_eq!(taken(&sampling, 503, normal), 10_000);
        let cut = Termination::new(Who::Client, Phase::Body);
        assert_eq!(taken(&sampling, 200, cut), 10_000);
        assert_eq!(taken(&Sampling::All, 200, normal), 10_000);
    }
}
