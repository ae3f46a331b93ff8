//! The canonical form of JSON, in which the order of keys and the spelling of numbers do not matter.

use serde_json::Value;

/// From here on not every integer is a number of its own in the canonical form, which knows 64-bit floats alone.
const INEXACT_FROM: f64 = 9_007_199_254_740_992.0;

/// The canonical form of RFC 8785, or `None` for a value with a number that shares its form with another number.
pub(crate) fn canonical(value: &Value) -> Option<Vec<u8>> {
    if !is_exact(value) {
        return None;
    }
    serde_json_canonicalizer::to_vec(value).ok()
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() < INEXACT_FROM),
        Value::Array(values) => values.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<String> {
        let value = serde_json::from_str(text).unwrap();
        canonical(&value).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_order_of_keys_and_the_spelling_of_numbers_do_not_matter() {
        assert_eq!(form(r#"{"b": 1.0, "a": [1e2]}"#), form(r#"{"a":[100],"b":1}"#));
        assert_eq!(form("0"), form("-0.0"));
        assert_ne!(form("0"), form("0.1"));
    }

    #[test]
    fn integers_that_would_share_a_form_have_none() {
        assert!(form("9007199254740991").is_some());
        assert_eq!(form(r#"{"seed": [9007199254740993]}"#), None);
        assert_eq!(form("123456789012345678901234567890"), None);
    }

    #[test]
    fn text_is_not_normalised() {
        assert_ne!(form("\"\u{e9}\""), form("\"e\u{301}\""));
        assert_ne!(form(r#""{\"a\":1}""#), form(r#""{\"a\": 1}""#));
    }
}
