//! Reading our enums from the database.

/// Reads an enum from its word. Statements return enums as text, because a type of the database's own would have to be
/// looked up on each new connection by a named statement, which a pooler in transaction mode does not carry.
macro_rules! from_sql_word {
    ($type:ty) => {
        impl<'a> postgres_types::FromSql<'a> for $type {
            fn from_sql(
                _: &postgres_types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
                    std::str::from_utf8(raw)?,
                );
                Ok(<Self as serde::Deserialize>::deserialize(word)?)
            }

            postgres_types::accepts!(TEXT);
        }
    };
}
pub(crate) use from_sql_word;
