-- Records that an operator watches a connection. $1 its ID text, $2 whether payloads are shown. Returns one row.
select rollcall.record_operator_action('watch_connection',
  jsonb_build_object('connection_id', $1::text, 'payloads', $2::boolean))
