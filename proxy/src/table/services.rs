//! The services of a table, in the order of their names. They are kept in chunks: a table with
//! another service in the place of one shares all chunks but that one's, so that such a change costs
//! little, however many services there are.

use std::iter::FlatMap;
use std::ops::Index;
use std::slice;
use std::sync::Arc;

use crate::table::service::Service;

/// A table of ten thousand services has about as many chunks as a chunk has services.
const IN_CHUNK: usize = 1 << IN_CHUNK_BITS;
const IN_CHUNK_BITS: u32 = 6;

/// Some services, one after the other in memory.
type Chunk = Arc<[Arc<Service>]>;

/// Goes through all services, by name.
type Iter<'s> = FlatMap<
    slice::Iter<'s, Chunk>,
    slice::Iter<'s, Arc<Service>>,
    fn(&Chunk) -> slice::Iter<'_, Arc<Service>>,
>;

/// All services, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    /// Full, but for the last one.
    chunks: Vec<Chunk>,
}

impl Services {
    /// These, which are in the order of their names.
    pub(super) fn new(services: Vec<Arc<Service>>) -> Self {
        let mut chunks = Vec::with_capacity(services.len().div_ceil(IN_CHUNK));
        let mut rest = services.into_iter();
        while rest.len() > 0 {
            chunks.push(rest.by_ref().take(IN_CHUNK).collect());
        }
        Self { chunks }
    }

    /// The same with this one at a place where there is one.
    pub(super) fn replaced(&self, place: usize, service: Arc<Service>) -> Self {
        let mut chunks = self.chunks.clone();
        let chunk = &mut chunks[place >> IN_CHUNK_BITS];
        let mut services = chunk.to_vec();
        services[place % IN_CHUNK] = service;
        *chunk = services.into();
        Self { chunks }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, |last| last.len());
        self.chunks.len().saturating_sub(1) * IN_CHUNK + last
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> Iter<'_> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The place of the service with this name, or the one where it would be.
    pub(super) fn place_of(&self, name: &str) -> Result<usize, usize> {
        let begins_before = |chunk: &Chunk| {
            let first = chunk.first();
            first.is_some_and(|first| *first.definition.name <= *name)
        };
        let chunk = self.chunks.partition_point(begins_before).saturating_sub(1);
        let before = chunk << IN_CHUNK_BITS;
        let Some(services) = self.chunks.get(chunk) else {
            return Err(0);
        };
        let found = services.binary_search_by(|service| (*service.definition.name).cmp(name));
        found
            .map(|place| before + place)
            .map_err(|place| before + place)
    }

    /// Those that are not the same in `before`.
    pub(crate) fn changed_since<'s>(
        &'s self,
        before: &'s Self,
    ) -> impl Iterator<Item = &'s Arc<Service>> {
        let both = self.chunks.iter().enumerate();
        let changed = both.filter(|(at, chunk)| {
            let same = before.chunks.get(*at);
            !same.is_some_and(|same| Arc::ptr_eq(same, chunk))
        });
        changed
            .flat_map(|(_, chunk)| chunk.iter())
            .filter(|service| {
                let there = before.place_of(&service.definition.name);
                !there.is_ok_and(|place| Arc::ptr_eq(&before[place], service))
            })
    }
}

impl Index<usize> for Services {
    type Output = Arc<Service>;

    fn index(&self, place: usize) -> &Arc<Service> {
        &self.chunks[place >> IN_CHUNK_BITS][place % IN_CHUNK]
    }
}

impl<'s> IntoIterator for &'s Services {
    type Item = &'s Arc<Service>;
    type IntoIter = Iter<'s>;

    fn into_iter(self) -> Iter<'s> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services with these numbers in their names.
    fn of(numbers: impl Iterator<Item = usize>) -> Vec<Arc<Service>> {
        let service = |number| {
            let json = format!(r#"{{"name":"s{number:05}","path_prefix":"/{number}"}}"#);
            Arc::new(crate::testing::service(&json, None))
        };
        numbers.map(service).collect()
    }

    fn name(number: usize) -> String {
        format!("s{number:05}")
    }

    #[test]
    fn a_service_is_found_by_its_name_and_by_its_place() {
        for count in [0, 1, 2, 63, 64, 65, 128, 200] {
            // Every other number has a service.
            let services = Services::new(of((0..count).map(|number| 2 * number + 1)));
            assert_eq!((services.len(), services.iter().count()), (count, count));
            for place in 0..count {
                assert_eq!(services.place_of(&name(2 * place + 1)), Ok(place));
                assert_eq!(services.place_of(&name(2 * place)), Err(place));
                assert_eq!(*services[place].definition.name, *name(2 * place + 1));
            }
            assert_eq!(services.place_of("t"), Err(count));
        }
    }

    #[test]
    fn a_service_that_is_replaced_touches_its_chunk_alone() {
        let before = Services::new(of(0..1_000));
        let another = of(500..501).remove(0);
        let after = before.replaced(500, another.clone());
        let changed: Vec<_> = after.changed_since(&before).collect();
        assert!(changed.len() == 1 && Arc::ptr_eq(changed[0], &another));
        let both = before.chunks.iter().zip(&after.chunks);
        let copied = both.filter(|(one, other)| !Arc::ptr_eq(one, other));
        assert_eq!(copied.count(), 1);
        assert_eq!(after.changed_since(&after).count(), 0);
        let fewer = Services::new(of(1..3));
        assert_eq!(fewer.changed_since(&before).count(), 2);
    }
}
