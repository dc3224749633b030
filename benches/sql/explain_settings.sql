-- Sends the plan of every statement, including those inside functions, as a notice.
load 'auto_explain';
set auto_explain.log_min_duration = 0;
set auto_explain.log_nested_statements = on;
set auto_explain.log_analyze = on;
set auto_explain.log_buffers = on;
set auto_explain.log_timing = off;
set auto_explain.log_level = 'notice';
set client_min_messages = 'notice';
