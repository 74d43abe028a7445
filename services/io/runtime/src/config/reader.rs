//! Reads a [`Tree`] into a configuration struct, knowing at every value which key it stands under, so that a refusal can
//! name it.

use std::collections::{BTreeMap, btree_map};
use std::vec;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::Tree;

mod refusal;
pub(super) use refusal::Refusal;

/// A value and the keys it stands under.
pub(super) struct Reader {
    tree: Tree,
    path: String,
}

impl Reader {
    pub(super) fn root(tree: Tree) -> Self {
        Self { tree, path: String::new() }
    }

    /// What a variable holds, read as TOML.
    fn parse_variable(&self) -> Option<Tree> {
        let Tree::Variable { text, .. } = &self.tree else { return None };
        let mut table = format!("value = {}", text.trim()).parse::<toml::Table>().ok()?;
        let value = table.remove("value")?;
        table.is_empty().then(|| value.into())
    }

    /// Runs a visit and puts this value's keys and origin on what it refuses.
    fn within<V>(self, visit: impl FnOnce(Self) -> Result<V, Refusal>) -> Result<V, Refusal> {
        let (path, variable) = (self.path.clone(), self.tree.variable().map(str::to_owned));
        visit(self).map_err(|refusal| refusal.within(&path, variable.as_deref()))
    }

    /// A variable where TOML other than text is expected: its text is TOML.
    fn variable_as_toml(mut self) -> Self {
        if let Some(tree) = self.parse_variable() {
            self.tree = tree;
        }
        self
    }

    /// A variable where a list is expected: a TOML array, or values between commas.
    fn variable_as_list(mut self) -> Self {
        let Tree::Variable { name, text, .. } = &self.tree else { return self };
        let single =
            |text: &str| Tree::Variable { name: name.clone(), text: text.trim().to_owned(), may_be_foreign: false };
        self.tree = match self.parse_variable() {
            Some(Tree::List(list)) => Tree::List(list),
            _ if text.trim().is_empty() => Tree::List(Vec::new()),
            _ => Tree::List(text.split(',').map(single).collect()),
        };
        self
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.tree {
            Tree::Table(table) => visitor.visit_map(TableReader::new(table, self.path)),
            Tree::List(list) => visitor.visit_seq(ListReader { values: list.into_iter(), index: 0, path: self.path }),
            Tree::Variable { text, .. } => visitor.visit_string(text),
            Tree::Leaf(leaf) => match leaf {
                toml::Value::String(text) => visitor.visit_string(text),
                toml::Value::Integer(number) => visitor.visit_i64(number),
                toml::Value::Float(number) => visitor.visit_f64(number),
                toml::Value::Boolean(truth) => visitor.visit_bool(truth),
                toml::Value::Datetime(moment) => visitor.visit_string(moment.to_string()),
                // Tables and lists are never leaves.
                toml::Value::Array(_) | toml::Value::Table(_) => Err(Refusal::custom("unexpected table or list")),
            },
        }
    }
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.within(|reader| reader.variable_as_toml().visit(visitor))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.within(|reader| reader.visit(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refusal> {
        self.within(|reader| visitor.visit_newtype_struct(reader))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.within(|reader| {
            let mut reader = reader.variable_as_list();
            // A list given by variables alone: NAME__0, NAME__1.
            if let Tree::Table(table) = &reader.tree
                && table.iter().enumerate().all(|(index, (key, _))| key.parse() == Ok(index))
            {
                reader.tree = Tree::List(table.values().cloned().collect());
            }
            reader.visit(visitor)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.within(|reader| reader.variable_as_toml().without_foreign(|_| false).visit(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.within(|reader| {
            let reader = reader.variable_as_toml().without_foreign(|key| fields.contains(&key));
            if let Tree::Table(table) = &reader.tree
                && let Some((key, value)) = table.iter().find(|(key, _)| !fields.contains(&key.as_str()))
            {
                return Err(Refusal::unknown_field(key, fields).within(&reader.path, value.variable()));
            }
            reader.visit(visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.within(|reader| match reader.tree {
            Tree::Table(table) => visitor.visit_enum(MapAccessDeserializer::new(TableReader::new(table, reader.path))),
            Tree::Leaf(toml::Value::String(text)) | Tree::Variable { text, .. } => {
                visitor.visit_enum(IntoDeserializer::<Refusal>::into_deserializer(text))
            }
            Tree::List(_) | Tree::Leaf(_) => Err(Refusal::custom("expected one of some words")),
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 unit unit_struct ignored_any
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }
}

impl Reader {
    /// Drops variables that may be somebody else's, unless their name is known here.
    fn without_foreign(mut self, is_known: impl Fn(&str) -> bool) -> Self {
        if let Tree::Table(table) = &mut self.tree {
            table.retain(|key, value| !matches!(value, Tree::Variable { may_be_foreign: true, .. }) || is_known(key));
        }
        self
    }
}

struct TableReader {
    entries: btree_map::IntoIter<String, Tree>,
    current: Option<(String, Tree)>,
    path: String,
}

impl TableReader {
    fn new(table: BTreeMap<String, Tree>, path: String) -> Self {
        Self { entries: table.into_iter(), current: None, path }
    }
}

impl<'de> MapAccess<'de> for TableReader {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        self.current = self.entries.next();
        let Some((key, value)) = &self.current else { return Ok(None) };
        let deserializer: StringDeserializer<Refusal> = key.clone().into_deserializer();
        seed.deserialize(deserializer).map(Some).map_err(|refusal| refusal.within(&self.path, value.variable()))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let (key, tree) = self.current.take().ok_or_else(|| Refusal::custom("a value without its key"))?;
        read_into(seed, Reader { tree, path: join(&self.path, &key) })
    }
}

struct ListReader {
    values: vec::IntoIter<Tree>,
    index: usize,
    path: String,
}

impl<'de> SeqAccess<'de> for ListReader {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        let Some(tree) = self.values.next() else { return Ok(None) };
        let path = join(&self.path, &self.index.to_string());
        self.index += 1;
        read_into(seed, Reader { tree, path }).map(Some)
    }
}

/// Reads a value; what its type refuses after having read it (`deserialize_with`, `try_from`) is named here.
fn read_into<'de, S: DeserializeSeed<'de>>(seed: S, reader: Reader) -> Result<S::Value, Refusal> {
    let (path, variable) = (reader.path.clone(), reader.tree.variable().map(str::to_owned));
    seed.deserialize(reader).map_err(|refusal| refusal.within(&path, variable.as_deref()))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
