vacuum (analyze) rollcall.contacts, rollcall.presence_devices, rollcall.user_last_seen, rollcall.user_presence,
  rollcall.presence_settings, rollcall.team_members
