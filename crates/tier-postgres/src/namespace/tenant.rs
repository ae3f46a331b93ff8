//! How the tables store the names of tenants.

/// The stored name. Text in Postgres cannot hold NUL, and no tenant differs from an empty name.
pub(crate) fn tenant_name(tenant: Option<&str>) -> String {
    match tenant {
        None => String::new(),
        Some("") => "\\e".to_owned(),
        Some(tenant) => tenant.replace('\\', "\\\\").replace('\0', "\\0"),
    }
}

/// The tenant whose stored name is `name`.
pub(crate) fn tenant_of(name: &str) -> Option<String> {
    match name {
        "" => None,
        "\\e" => Some(String::new()),
        name => {
            let mut tenant = String::with_capacity(name.len());
            let mut rest = name.chars();
            while let Some(next) = rest.next() {
                tenant.push(match next {
                    '\\' => rest.next().map_or('\\', |escaped| if escaped == '0' { '\0' } else { escaped }),
                    plain => plain,
                });
            }
            Some(tenant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_come_back_from_their_names() {
        for tenant in [None, Some(""), Some("acme"), Some("a\\0\0\\e"), Some("\\"), Some("\\e")] {
            assert_eq!(tenant_of(&tenant_name(tenant)), tenant.map(str::to_owned));
        }
    }
}
