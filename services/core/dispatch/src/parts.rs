//! Cuts the recipients of a message into parts: one site and one set of exchangers a part, at most as many recipients as the class allows. Never
//! looks anything up: the sites are handed in.

use std::sync::Arc;

use postrider_model::{Class, PartNumber, SiteName};

/// Where a recipient's mail goes, as the shell found out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The site of its domain.
    pub site: SiteName,
    /// The slice of a giant site for this message; 0 elsewhere.
    pub slice: u16,
    /// The key of its exchangers. Domains of one site may have different ones, and one conversation cannot serve both.
    pub exchange: Arc<str>,
}

/// One part of a message to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPlan {
    /// Its number, from 0.
    pub number: PartNumber,
    /// Where all of its recipients are.
    pub place: Place,
    /// Positions in the list that was cut, in its order.
    pub recipients: Vec<usize>,
}

/// Cuts recipients, given by their places in the order of submission, into parts: sites in the order in which they first
/// occur, recipients in their own order. The same input gives the same numbers.
pub fn split_into_parts(places: &[Place], class: Class) -> Vec<PartPlan> {
    let most = class.recipients_per_part();
    let mut open = std::collections::HashMap::<&Place, Vec<usize>>::new();
    let mut order = Vec::new();
    for (position, place) in places.iter().enumerate() {
        let recipients = open.entry(place).or_insert_with(|| {
            order.push(place);
            Vec::new()
        });
        recipients.push(position);
    }
    let mut parts = Vec::new();
    for place in order {
        for recipients in open.get(place).map_or(&[][..], Vec::as_slice).chunks(most) {
            let number = PartNumber::try_from(parts.len()).unwrap_or(PartNumber::MAX);
            parts.push(PartPlan { number, place: place.clone(), recipients: recipients.to_vec() });
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(sites: &[&str]) -> Vec<Place> {
        sites.iter().map(|site| Place { site: site.parse().unwrap(), slice: 0, exchange: (*site).into() }).collect()
    }

    #[track_caller]
    fn check(sites: &[&str], class: Class, expected: &[(&str, &[usize])]) {
        let parts = split_into_parts(&places(sites), class);
        let found: Vec<_> = parts.iter().map(|p| (p.place.site.as_str(), p.recipients.as_slice())).collect();
        assert_eq!(found, expected);
        assert!(parts.iter().enumerate().all(|(i, p)| usize::try_from(p.number) == Ok(i)));
    }

    #[test]
    fn transactional_recipients_are_grouped_by_site_in_order_of_first_occurrence() {
        check(
            &["b.example", "a.example", "b.example"],
            Class::Transactional,
            &[("b.example", &[0, 2]), ("a.example", &[1])],
        );
    }

    #[test]
    fn a_bulk_part_has_one_recipient() {
        check(
            &["b.example", "a.example", "b.example"],
            Class::Bulk,
            &[("b.example", &[0]), ("b.example", &[2]), ("a.example", &[1])],
        );
    }

    #[test]
    fn a_transactional_part_has_at_most_a_hundred_recipients() {
        let parts = split_into_parts(&places(&["a.example"; 201]), Class::Transactional);
        assert_eq!(parts.iter().map(|p| p.recipients.len()).collect::<Vec<_>>(), [100, 100, 1]);
        let all: Vec<usize> = parts.into_iter().flat_map(|p| p.recipients).collect();
        assert_eq!(all, (0..201).collect::<Vec<_>>());
    }

    #[test]
    fn slices_of_a_site_are_parts_of_their_own() {
        let site: SiteName = "google".parse().unwrap();
        let places = [0, 1, 0].map(|slice| Place { site: site.clone(), slice, exchange: "mx".into() });
        let parts = split_into_parts(&places, Class::Transactional);
        assert_eq!(
            parts.iter().map(|p| (p.place.slice, p.recipients.clone())).collect::<Vec<_>>(),
            [(0, vec![0, 2]), (1, vec![1])]
        );
    }

    #[test]
    fn nobody_makes_no_part() {
        assert!(split_into_parts(&[], Class::Bulk).is_empty());
    }
}
