//! One of something for each class.

use std::ops::{Index, IndexMut};

use postrider_model::Class;

/// One for transactional mail, one for bulk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerClass<T> {
    transactional: T,
    bulk: T,
}

impl<T> Index<Class> for PerClass<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        match class {
            Class::Transactional => &self.transactional,
            Class::Bulk => &self.bulk,
        }
    }
}

impl<T> IndexMut<Class> for PerClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Transactional => &mut self.transactional,
            Class::Bulk => &mut self.bulk,
        }
    }
}
