-- Records a seed file. $1 text: path, $2 text: SHA-256 of its content in hexadecimal.
-- One row, one boolean: whether it was not recorded before. A row that an insert created has no deleting transaction.
insert into rollcall_internal.seed_files as f (path, hash) values ($1, $2)
on conflict (path) do update set hash = excluded.hash
returning f.xmax = 0
