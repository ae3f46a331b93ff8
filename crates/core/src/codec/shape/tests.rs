use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::*;

macro_rules! shapes {
    ($($name:ident: { $($item:item)* } $type:ty;)*) => {$(
        #[allow(dead_code, reason = "types that are only looked at")]
        fn $name() -> Shape {
            $(#[derive(Deserialize)] $item)*
            Shape::of::<$type>()
        }
    )*};
}

shapes! {
    record: { struct Row { a: u32, b: String, c: Option<bool> } } Row;
    renamed_type: { struct Other { a: u32, b: String, c: Option<bool> } } Other;
    added: { struct Row { a: u32, b: String, c: Option<bool>, d: u8 } } Row;
    removed: { struct Row { a: u32, b: String } } Row;
    renamed: { struct Row { a: u32, b: String, d: Option<bool> } } Row;
    reordered: { struct Row { b: String, a: u32, c: Option<bool> } } Row;
    retyped: { struct Row { a: i32, b: String, c: Option<bool> } } Row;
    widened: { struct Row { a: u64, b: String, c: Option<bool> } } Row;
    optional: { struct Row { a: u32, b: Option<String>, c: Option<bool> } } Row;
    retyped_in_option: { struct Row { a: u32, b: String, c: Option<u8> } } Row;

    variants: { enum Kind { A, B(u32), C(u8, String), D { x: u8, y: Vec<u16> } } } Kind;
    variant_added: { enum Kind { A, B(u32), C(u8, String), D { x: u8, y: Vec<u16> }, E } } Kind;
    variant_renamed: { enum Kind { Z, B(u32), C(u8, String), D { x: u8, y: Vec<u16> } } } Kind;
    variants_swapped: { enum Kind { B(u32), A, C(u8, String), D { x: u8, y: Vec<u16> } } } Kind;
    unit_to_newtype: { enum Kind { A(u8), B(u32), C(u8, String), D { x: u8, y: Vec<u16> } } } Kind;
    newtype_content: { enum Kind { A, B(i32), C(u8, String), D { x: u8, y: Vec<u16> } } } Kind;
    tuple_content: { enum Kind { A, B(u32), C(u8, Uuid), D { x: u8, y: Vec<u16> } } } Kind;
    tuple_to_newtype: { enum Kind { A, B(u32), C(u8), D { x: u8, y: Vec<u16> } } } Kind;
    field_content: { enum Kind { A, B(u32), C(u8, String), D { x: u8, y: Vec<u32> } } } Kind;
    field_renamed: { enum Kind { A, B(u32), C(u8, String), D { x: u8, z: Vec<u16> } } } Kind;
}

fn all_differ(shapes: &[Shape]) {
    let fingerprints: HashSet<_> = shapes.iter().map(|shape| shape.fingerprint()).collect();
    assert_eq!(fingerprints.len(), shapes.len());
    assert!(shapes.iter().all(|shape| shape.is_whole() && !shape.needs_self_describing()));
}

#[test]
fn every_change_of_a_struct_changes_its_shape() {
    all_differ(&[
        record(),
        added(),
        removed(),
        renamed(),
        reordered(),
        retyped(),
        widened(),
        optional(),
        retyped_in_option(),
    ]);
}

#[test]
fn every_change_of_an_enum_changes_its_shape() {
    all_differ(&[
        variants(),
        variant_added(),
        variant_renamed(),
        variants_swapped(),
        unit_to_newtype(),
        newtype_content(),
        tuple_content(),
        tuple_to_newtype(),
        field_content(),
        field_renamed(),
    ]);
}

#[test]
fn the_name_of_a_type_and_a_newtype_around_it_do_not_count() {
    #[derive(Deserialize)]
    struct Id(#[allow(dead_code, reason = "only looked at")] u32);
    assert_eq!(record(), renamed_type());
    assert_eq!(record(), record());
    assert_eq!(Shape::of::<Vec<Id>>(), Shape::of::<Vec<u32>>());
    assert_eq!(Shape::of::<Vec<u8>>(), Shape::of::<HashSet<u8>>());
    assert_eq!(Shape::of::<Uuid>(), Shape::of::<Uuid>());
}

#[test]
fn changes_inside_containers_are_seen() {
    all_differ(&[
        Shape::of::<u32>(),
        Shape::of::<Option<u32>>(),
        Shape::of::<Option<Option<u32>>>(),
        Shape::of::<Vec<u32>>(),
        Shape::of::<Vec<u64>>(),
        Shape::of::<Vec<Vec<u32>>>(),
        Shape::of::<[u32; 3]>(),
        Shape::of::<[u32; 4]>(),
        Shape::of::<(u32, u32, u64)>(),
        Shape::of::<(Uuid, u32, u64)>(),
        Shape::of::<(Uuid, NonZeroU32, (u8, u16))>(),
        Shape::of::<(Uuid, NonZeroU32, (u8, u32))>(),
        Shape::of::<HashMap<String, u32>>(),
        Shape::of::<HashMap<String, u64>>(),
        Shape::of::<HashMap<u32, u32>>(),
        Shape::of::<BTreeMap<Uuid, Vec<u8>>>(),
        Shape::of::<BTreeMap<NonZeroU32, Vec<u16>>>(),
        Shape::of::<Result<u8, String>>(),
        Shape::of::<Result<u8, u8>>(),
        Shape::of::<std::time::Duration>(),
        Shape::of::<std::net::IpAddr>(),
        Shape::of::<()>(),
        Shape::of::<Uuid>(),
        Shape::of::<f32>(),
        Shape::of::<f64>(),
    ]);
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "types that are only looked at")]
struct Page<T> {
    items: T,
    next: Option<u32>,
}

#[test]
fn a_generic_type_within_itself_is_looked_through() {
    all_differ(&[
        Shape::of::<Page<u32>>(),
        Shape::of::<Page<Page<u32>>>(),
        Shape::of::<Page<Page<u64>>>(),
        Shape::of::<Page<Page<Page<u64>>>>(),
    ]);
}

shapes! {
    list: { struct List { value: u32, next: Option<Box<List>> } } List;
    list_of_text: { struct List { value: String, next: Option<Box<List>> } } List;
    list_with_tail: { struct List { value: u32, next: Option<Box<List>>, tail: u8 } } List;
    expression: {
        enum Expression { Add(Box<Expression>, Box<Expression>), Neg(Box<Expression>), Value(f64), All(Vec<Expression>) }
    } Expression;
    other_expression: {
        enum Expression { Add(Box<Expression>, Box<Expression>), Neg(Box<Expression>), Value(f32), All(Vec<Expression>) }
    } Expression;
    nest: { struct Nest(Vec<Nest>); } Nest;
    nest_of_options: { struct Nest(Vec<Option<Nest>>); } Nest;
    two: {
        struct A { b: Option<Box<B>>, n: u8 }
        struct B { a: Option<Box<A>>, n: u16 }
    } A;
    two_others: {
        struct A { b: Option<Box<B>>, n: u8 }
        struct B { a: Option<Box<A>>, n: u32 }
    } A;
}

#[test]
fn types_that_hold_themselves_end_and_their_changes_are_seen() {
    all_differ(&[
        list(),
        list_of_text(),
        list_with_tail(),
        expression(),
        other_expression(),
        nest(),
        nest_of_options(),
        two(),
        two_others(),
    ]);
}

#[test]
fn a_field_that_refuses_samples_hides_no_other() {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "types that are only looked at")]
    struct Picky<T> {
        #[serde(deserialize_with = "never")]
        first: String,
        second: T,
    }
    fn never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "sesame" { Ok(text) } else { Err(serde::de::Error::custom("no")) }
    }
    all_differ(&[Shape::of::<Picky<u8>>(), Shape::of::<Picky<u16>>()]);
    // In a tuple, the elements after a field that refuses all samples cannot be probed, and `is_whole`
    // says so.
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "types that are only looked at")]
    struct Pair(#[serde(deserialize_with = "never")] String, u8);
    assert!(!Shape::of::<Pair>().is_whole());
}

#[test]
fn what_serde_sees_only_in_a_value_is_told() {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "types that are only looked at")]
    struct Flat {
        id: u32,
        #[serde(flatten)]
        rest: HashMap<String, u32>,
    }
    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code, reason = "types that are only looked at")]
    enum Tagged {
        A { n: u8 },
    }
    for shape in [
        Shape::of::<Flat>(),
        Shape::of::<Tagged>(),
        Shape::of::<serde_json::Value>(),
        Shape::of::<Vec<Option<Tagged>>>(),
    ] {
        assert!(shape.needs_self_describing() && !shape.is_whole());
    }
}

#[test]
fn a_type_that_swallows_errors_ends() {
    struct Lenient;
    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = u8::deserialize(deserializer);
            Ok(Self)
        }
    }
    all_differ(&[
        Shape::of::<Vec<Lenient>>(),
        Shape::of::<HashMap<String, Page<Lenient>>>(),
        Shape::of::<(Lenient, u8)>(),
    ]);
}

#[test]
fn a_type_too_large_to_look_at_is_cut_and_told() {
    type P2<T> = (T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T);
    assert!(!Shape::of::<P2<P2<P2<P2<u8>>>>>().is_whole());
}

#[test]
fn the_fingerprint_is_pinned() {
    assert_eq!(format!("{:016x}", record().fingerprint()), "7d94ee2aed18ecc4");
}
