-- Every bundle of the user has to be made again. $1 user uuid.
update public.context_bundles b set dirty = true where b.user_id = $1
