vacuum (analyze) public.contacts, public.presence_devices, public.user_last_seen, public.user_presence
