//! Reads enums from the database.

/// Implements `FromSql` for an enum from its text. Statements return enums as text: a database enum type would need a
/// lookup on each new connection by a named statement, which poolers in transaction mode do not support.
macro_rules! from_sql_text {
    ($type:ty) => {
        impl<'a> postgres_types::FromSql<'a> for $type {
            fn from_sql(
                _: &postgres_types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
                    std::str::from_utf8(raw)?,
                );
                Ok(<Self as serde::Deserialize>::deserialize(text)?)
            }

            postgres_types::accepts!(TEXT);
        }
    };
}
pub(crate) use from_sql_text;
