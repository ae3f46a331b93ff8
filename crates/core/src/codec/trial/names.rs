//! The names of the fields that serde reads and writes of the samples of a type.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use super::sample::{AliasTest, Content, Notes, Sample};

/// The names that were seen, by the struct or variant that has them.
#[derive(Default)]
pub(super) struct Names {
    /// The fields that `Deserialize` asked for, with the sample that showed them.
    read: RefCell<Vec<ReadFields>>,
    /// The fields that `Serialize` wrote or left out on purpose.
    written: RefCell<Vec<WrittenField>>,
}

#[derive(Clone, Copy)]
struct ReadFields {
    container: &'static str,
    fields: &'static [&'static str],
    sample: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) struct WrittenField {
    pub(super) container: &'static str,
    pub(super) field: &'static str,
    pub(super) how: Written,
}

/// How `Serialize` treated a field.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Written {
    Value,
    /// The value is the name of the container: an internal tag, which is written only.
    Tag,
    /// The field was left out of this sample.
    LeftOut,
}

impl Names {
    pub(super) fn note_read(&self, container: &'static str, fields: &'static [&'static str], sample: usize) {
        let mut read = self.read.borrow_mut();
        if !read.iter().any(|known| known.container == container && known.fields == fields) {
            read.push(ReadFields { container, fields, sample });
        }
    }

    pub(super) fn note_written(&self, field: WrittenField) {
        let mut written = self.written.borrow_mut();
        if !written.contains(&field) {
            written.push(field);
        }
    }

    /// A field that `Serialize` leaves out of some samples, in words.
    pub(super) fn left_out(&self) -> Option<String> {
        let written = self.written.borrow();
        let WrittenField { container, field, .. } =
            written.iter().find(|field| field.how == Written::LeftOut)?;
        Some(format!(
            "serde leaves out the field `{field}` of `{container}` from some values (`skip_serializing_if`), \
             which a binary codec cannot express; set `.codec(Codec::Json)`, or remove the attribute"
        ))
    }

    /// A field that only one side knows, in words. A container that only one side names is another type to
    /// each of them (`from`, `into`), which says nothing.
    pub(super) fn lost<V: DeserializeOwned>(&self) -> Option<String> {
        let (read, written) = (self.read.borrow(), self.written.borrow());
        read.iter().find_map(|asked| {
            let container = asked.container;
            let fields = || written.iter().filter(|field| field.container == container);
            fields().next()?;
            let is_written = |name: &&str| fields().any(|field| field.field == *name);
            let is_alias = |name| fields().any(|field| is_alias::<V>(asked, field.field, name));
            let unwritten = asked.fields.iter().filter(|name| !is_written(name));
            if let Some(name) = unwritten.copied().find(|name| !is_alias(name)) {
                return Some(format!(
                    "serde reads the field `{name}` of `{container}` and never writes it \
                     (`skip_serializing`), so a reader would get another value"
                ));
            }
            // Two types of one name may have different fields.
            let is_read = |name| {
                read.iter().any(|other| other.container == container && other.fields.contains(&name))
            };
            let unread = fields().find(|field| field.how != Written::Tag && !is_read(field.field))?;
            Some(format!(
                "serde writes the field `{}` of `{container}` and never reads it (`skip_deserializing`), so a \
                 reader would get another value",
                unread.field
            ))
        })
    }
}

/// Whether `name` is an alias of the field `written`: serde refuses a value that has both.
fn is_alias<V: DeserializeOwned>(asked: &ReadFields, written: &'static str, name: &'static str) -> bool {
    let names = Names::default();
    let test = AliasTest { container: asked.container, written, name };
    [Content::None, Content::Full].into_iter().any(|content| {
        let notes = Notes::new(asked.sample, &names).with_alias_test(test);
        V::deserialize(Sample::new(asked.sample, content, &notes)).is_err_and(|stop| stop.is_duplicate)
    })
}
