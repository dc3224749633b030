//! A published table, as the WAL describes it.

/// Replica identity of a table: which columns of an old row are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// Old rows have the columns of the primary key.
    Default,
    /// Old rows are not logged.
    Nothing,
    /// Old rows have all columns.
    Full,
    /// Old rows have the columns of a unique index.
    Index,
}

/// A column of a published table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Box<str>,
    /// `pg_type.oid` of the column's type.
    pub type_oid: u32,
    /// Type modifier; -1 if there is none.
    pub type_modifier: i32,
    /// Whether the column belongs to the replica identity.
    pub in_identity: bool,
}

/// A published table, as it was when the changes that follow were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid` of the table.
    pub oid: u32,
    pub schema: Box<str>,
    pub table: Box<str>,
    pub identity: ReplicaIdentity,
    /// The published columns, in the table's order.
    pub columns: Box<[Column]>,
}
