-- A turn of a chat: the user's message and the model's answer, each saved once, however often the request comes.
-- Invariant: the user's message is written as the user, so policies judge it; a model's message only the server writes.

create index messages_pending on public.messages (updated_at) where state = 'pending';

-- Saves the question, if it is not there yet, and opens the answer. Returns "state": new, replay (with the answer that
-- there is), busy (it is being answered) or mismatch (the same key with another question).
-- Invoker: row-level security judges who may say something here.
create function rollcall.begin_turn(p_conversation uuid, p_content text, p_tokens int, p_key text) returns jsonb
  language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_me constant uuid := auth.uid();
  v_question public.messages;
begin
  if p_key is not null then
    select * into v_question from public.messages m
    where m.conversation_id = p_conversation and m.user_id = v_me and m.role = 'user' and m.idempotency_key = p_key;
    if found and v_question.content <> p_content then
      return jsonb_build_object('state', 'mismatch');
    end if;
  end if;
  if v_question.id is null then
    insert into public.messages (conversation_id, user_id, role, content, parts, token_count, idempotency_key)
    values (p_conversation, v_me, 'user', p_content,
      jsonb_build_array(jsonb_build_object('type', 'text', 'text', p_content)), p_tokens, p_key)
    on conflict (conversation_id, user_id, role, idempotency_key) where idempotency_key is not null do nothing
    returning * into v_question;
    if v_question.id is null then
      -- Somebody else was first, a moment ago.
      return jsonb_build_object('state', 'busy');
    end if;
  end if;
  return rollcall.open_answer(v_question.id) || jsonb_build_object('question_id', v_question.id);
end
$$;
comment on function rollcall.begin_turn is 'Saves a question once and opens its answer.';
grant execute on function rollcall.begin_turn to authenticated, service_role;

-- The answer to one of the caller's questions: a new, empty one, or what there is.
-- Definer: models' messages are the server's to write; only to a question of auth.uid().
create function rollcall.open_answer(p_question uuid) returns jsonb
  language plpgsql volatile security definer set search_path = ''
as $$
declare
  v_question public.messages;
  v_answer public.messages;
begin
  -- One at a time.
  select * into v_question from public.messages m
  where m.id = p_question and m.user_id = auth.uid() and m.role = 'user' for no key update;
  if not found then
    return jsonb_build_object('state', 'busy');
  end if;
  select * into v_answer from public.messages m where m.reply_to = p_question and m.role = 'assistant'
  order by m.message_index desc limit 1;
  if v_answer.state in ('complete', 'partial') then
    return jsonb_build_object('state', 'replay', 'answer_id', v_answer.id, 'content', v_answer.content,
      'metadata', v_answer.metadata, 'partial', v_answer.state = 'partial');
  elsif v_answer.state = 'pending' and v_answer.updated_at > clock_timestamp() - interval '2 minutes' then
    return jsonb_build_object('state', 'busy');
  elsif v_answer.id is not null then
    -- Its server is gone, or it failed.
    update public.messages m set state = 'pending' where m.id = v_answer.id;
  else
    insert into public.messages (conversation_id, user_id, role, content, state, idempotency_key, reply_to)
    values (v_question.conversation_id, v_question.user_id, 'assistant', '', 'pending', v_question.idempotency_key, p_question)
    returning * into v_answer;
  end if;
  return jsonb_build_object('state', 'new', 'answer_id', v_answer.id);
end
$$;
grant execute on function rollcall.open_answer to authenticated, service_role;

-- Ends an answer: complete, partial, or without a word failed, which leaves nothing but the question. False where
-- somebody else has ended it.
-- Definer: models' messages are the server's to write.
create function rollcall.end_answer(p_answer uuid, p_state public.message_state, p_content text, p_tokens int, p_metadata jsonb)
  returns boolean
  language plpgsql volatile security definer set search_path = ''
as $$
begin
  if p_state = 'failed' then
    delete from public.messages m where m.id = p_answer and m.state = 'pending';
    return found;
  end if;
  update public.messages m set state = p_state, content = p_content, token_count = p_tokens, metadata = p_metadata,
    parts = jsonb_build_array(jsonb_build_object('type', 'text', 'text', p_content))
  where m.id = p_answer and m.state = 'pending';
  if not found then
    return false;
  end if;
  update public.conversations c set last_message_at = greatest(c.last_message_at, clock_timestamp())
  where c.id = (select m.conversation_id from public.messages m where m.id = p_answer);
  return true;
end
$$;
grant execute on function rollcall.end_answer to service_role;

-- Keeps an answer that is still being written from being taken for one whose server is gone.
-- Definer: see end_answer.
create function rollcall.touch_answer(p_answer uuid) returns void
  language sql volatile security definer set search_path = ''
as $$ update public.messages m set updated_at = now() where m.id = p_answer and m.state = 'pending' $$;
grant execute on function rollcall.touch_answer to service_role;

-- Answers that nobody writes any more go. Returns how many. Definer: for the server.
create function rollcall.tidy_answers() returns bigint
  language sql volatile security definer set search_path = ''
as $$
  with gone as (
    delete from public.messages m where m.state = 'pending' and m.updated_at < clock_timestamp() - interval '15 minutes'
    returning 1
  )
  select count(*) from gone
$$;
grant execute on function rollcall.tidy_answers to service_role;

revoke execute on all functions in schema rollcall from public;
