//! Versions and roles of the embedded cluster.

/// The oldest supported major version of PostgreSQL.
pub const MINIMUM_MAJOR: u32 = 15;
/// Superuser, named as on Supabase.
pub(super) const ADMIN_ROLE: &str = "supabase_admin";
/// Role of `DATABASE_URL`; not a superuser, as on Supabase.
pub(super) const SERVER_ROLE: &str = "postgres";
