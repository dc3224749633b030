-- One row by its index, as the user. $1 text of anything.
select m.content from rollcall.memories m where m.id = md5('m' || length($1))::uuid
