-- One row by index, as the user. $1 any text.
select m.content from rollcall.memories m where m.id = md5('m' || length($1))::uuid
