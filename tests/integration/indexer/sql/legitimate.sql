-- Queries a user may reasonably write. Each must pass the gate and run. `-- query: <name>` opens one.
-- query: seed 1, top sessions by message count, verbatim
SELECT
    s.title,
    s.model,
    COUNT(sm.id) as msg_count
FROM sessions s
LEFT JOIN session_messages sm ON s.id = sm.session_id
GROUP BY s.id
ORDER BY msg_count DESC
LIMIT 15;
-- query: seed 2, recent sessions with context usage, verbatim
SELECT
    title,
    model,
    context_used_percent,
    status,
    created_at
FROM sessions
WHERE title != 'Untitled'
ORDER BY created_at DESC
LIMIT 20;
-- query: seed 3, messages from a specific session, verbatim
SELECT
    role,
    substr(content, 1, 500) as preview,
    created_at
FROM session_messages
WHERE session_id = '<session_id>'
ORDER BY created_at;
-- query: a constant
SELECT 1
-- query: no semicolon, comments inside
/* why */ SELECT count(*) -- how many
FROM sessions
-- query: common table expressions that read one another
WITH a AS (SELECT id, provider FROM sessions), b AS (SELECT provider, count(*) n FROM a GROUP BY provider) SELECT * FROM b JOIN a USING (provider)
-- query: a common table expression with the name of a view
WITH sessions AS (SELECT * FROM sessions WHERE status = 'idle') SELECT count(*) FROM sessions
-- query: a nested common table expression sees the outer one
WITH a AS (SELECT 1 x) SELECT * FROM (WITH b AS (SELECT x + 1 y FROM a) SELECT * FROM b)
-- query: a materialized common table expression
WITH a(i) AS MATERIALIZED (SELECT id FROM sessions) SELECT x.i FROM a x JOIN a y ON x.i = y.i
-- query: a subquery in FROM sees a common table expression through a join
WITH a AS (SELECT 1 x) SELECT * FROM a JOIN (SELECT x z FROM a) b ON a.x = b.z WHERE EXISTS (SELECT 1 FROM a WHERE a.x = b.z)
-- query: window functions with frames
SELECT id, row_number() OVER w, lag(revision, 1, 0) OVER w, sum(revision) OVER (PARTITION BY session_id ORDER BY revision ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM session_messages WINDOW w AS (PARTITION BY session_id ORDER BY revision)
-- query: window with range frame, filter, ignore nulls
SELECT first_value(turn_id IGNORE NULLS) OVER (ORDER BY revision), count(*) FILTER (WHERE role = 'user') OVER (ORDER BY created_at RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW) FROM session_messages
-- query: qualify
SELECT session_id, content FROM session_messages QUALIFY row_number() OVER (PARTITION BY session_id ORDER BY created_at DESC) = 1
-- query: group by all, order by all
SELECT provider, model, count(*) AS n FROM sessions GROUP BY ALL ORDER BY ALL DESC NULLS LAST
-- query: rollup and grouping
SELECT provider, model, grouping(provider, model), sum(output_tokens) FROM sessions GROUP BY ROLLUP (provider, model)
-- query: grouping sets and cube
SELECT provider, status, count(*) FROM sessions GROUP BY GROUPING SETS ((provider), (status), ()) UNION ALL SELECT provider, status, count(*) FROM sessions GROUP BY CUBE (provider, status)
-- query: having
SELECT provider, avg(context_used_percent) a FROM sessions GROUP BY 1 HAVING count(*) > 0 AND a IS NOT NULL
-- query: pivot with a list
SELECT * FROM (PIVOT sessions ON status IN ('idle', 'running', 'error') USING count(*) GROUP BY provider)
-- query: standard pivot
SELECT * FROM (SELECT provider, status, message_count FROM sessions) PIVOT (sum(message_count) AS n FOR status IN ('idle', 'running'))
-- query: unpivot
SELECT * FROM (SELECT id, input_tokens, output_tokens FROM sessions) UNPIVOT (tokens FOR kind IN (input_tokens, output_tokens))
-- query: unnest as table and as column
SELECT u.x, unnest([1, 2]) FROM unnest([1, 2, 3]) AS u(x)
-- query: unnest json array laterally
SELECT m.id, b.value ->> '$.type' FROM session_messages m, json_each(m.content, '$.message.content') b
-- query: json tree
SELECT path, type FROM session_messages, json_tree(content) LIMIT 5
-- query: lateral join
SELECT s.title, l.content FROM sessions s, LATERAL (SELECT content FROM session_messages m WHERE m.session_id = s.id ORDER BY revision DESC LIMIT 1) l
-- query: left lateral join
SELECT s.id, l.n FROM sessions s LEFT JOIN LATERAL (SELECT count(*) n FROM session_messages m WHERE m.session_id = s.id) l ON true
-- query: list and struct functions
SELECT list_sort(list(id)), {'a': 1, 'b': 'x'}.b, struct_pack(a := 1).a, [1, 2, 3][1:2], [1, 2][1], list_distinct([1, 1]), len([1]), array_to_string([1, 2], ',') FROM sessions
-- query: lambdas
SELECT list_transform([1, 2, 3], lambda x: x + 1), list_filter([1, 2], lambda x, i: i > 1), list_reduce([1, 2], lambda a, b: a + b)
-- query: list comprehension
SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1]
-- query: arrow operators on json
SELECT content -> '$.message' -> 'role', content ->> '$.type', json_extract_string(content, '$.message.role'), json_array_length(content, '$.message.content') FROM session_messages
-- query: json aggregates
SELECT json_group_array(id), json_object('n', count(*)), to_json(list(title)) FROM sessions
-- query: regular expressions
SELECT regexp_extract(content, '"type":\s*"(\w+)"', 1), regexp_replace(title, '[aeiou]', '_', 'g'), title ~ 'x', title SIMILAR TO '.*', regexp_matches(title, '^U') FROM sessions s JOIN session_messages m ON m.session_id = s.id
-- query: likes
SELECT title FROM sessions WHERE title LIKE 'U%' OR title NOT LIKE '_' OR title ILIKE '%x%' OR title LIKE 'a!%' ESCAPE '!' OR title GLOB 'U*' OR contains(title, 'U') OR title ^@ 'U'
-- query: dates with time zones
SELECT date_trunc('day', created_at AT TIME ZONE 'Europe/Zurich'), extract(hour FROM created_at), created_at + INTERVAL 1 DAY, age(created_at), strftime(created_at, '%Y-%m-%d'), timezone('UTC', created_at), date_diff('minute', created_at, updated_at), time_bucket(INTERVAL '5 minutes', created_at) FROM sessions
-- query: date literals and now
SELECT DATE '2026-01-01', TIMESTAMPTZ '2026-01-01 00:00:00+02', now() - INTERVAL '3' HOUR, current_date, current_timestamp, to_timestamp(0), epoch_ms(1), INTERVAL (3) MONTH
-- query: a calendar of days
SELECT d::DATE AS day, count(s.id) FROM generate_series(TIMESTAMPTZ '2026-11-01', TIMESTAMPTZ '2026-11-30', INTERVAL 1 DAY) t(d) LEFT JOIN sessions s ON date_trunc('day', s.created_at) = d GROUP BY d ORDER BY d
-- query: a list of days between data
SELECT unnest(generate_series(min(created_at), max(created_at), INTERVAL 1 DAY)) FROM sessions
-- query: range as table
SELECT i, i * 2 FROM range(10) t(i) WHERE i % 2 = 0
-- query: bounded repeat and padding
SELECT repeat('=', 10), lpad(provider, 12, ' '), rpad(provider, 12, '.'), bar(context_used_percent, 0, 100, 20), repeat('x', least(message_count, 50)) FROM sessions
-- query: sampling
SELECT * FROM sessions USING SAMPLE 50 PERCENT (bernoulli, 1)
-- query: table sample with rows
SELECT * FROM sessions TABLESAMPLE reservoir(2 ROWS)
-- query: set operations
(SELECT id FROM sessions UNION SELECT session_id FROM session_messages) EXCEPT SELECT '' INTERSECT ALL SELECT 'x' ORDER BY 1 LIMIT 3
-- query: union by name
SELECT id, title FROM sessions UNION ALL BY NAME SELECT id, role FROM session_messages
-- query: positional join
SELECT * FROM (SELECT id FROM sessions) POSITIONAL JOIN (SELECT id AS mid FROM session_messages)
-- query: asof join
SELECT s.id, m.id FROM sessions s ASOF LEFT JOIN session_messages m ON s.id = m.session_id AND s.created_at <= m.created_at
-- query: semi and anti joins
SELECT id FROM sessions SEMI JOIN session_messages ON sessions.id = session_messages.session_id UNION ALL SELECT id FROM sessions ANTI JOIN session_messages ON sessions.id = session_id
-- query: natural, cross, full and right joins
SELECT count(*) FROM sessions NATURAL JOIN (SELECT id FROM sessions) x CROSS JOIN (VALUES (1), (2)) v(n) FULL OUTER JOIN (SELECT 1 k) y ON y.k = v.n RIGHT JOIN (SELECT 1 q) z ON true
-- query: subqueries everywhere
SELECT id, (SELECT count(*) FROM session_messages m WHERE m.session_id = s.id) FROM sessions s WHERE id IN (SELECT session_id FROM session_messages) AND EXISTS (SELECT 1) AND message_count >= ALL (SELECT 0) AND 'user' = ANY (SELECT role FROM session_messages)
-- query: values
VALUES (1, 'a'), (2, 'b')
-- query: from first
FROM sessions SELECT id WHERE archived = false LIMIT 1
-- query: table statement
TABLE sessions
-- query: exclude, replace, rename
SELECT * EXCLUDE (jsonl_path) REPLACE (upper(title) AS title) RENAME (model AS m) FROM sessions
-- query: qualified star
SELECT s.* EXCLUDE (id), m.id FROM sessions s JOIN session_messages m ON m.session_id = s.id
-- query: columns expressions
SELECT COLUMNS('.*_tokens'), max(COLUMNS('.*_at')) OVER () FROM sessions
-- query: columns with a lambda, and a like star
SELECT COLUMNS(lambda c: c LIKE 'cost%'), * LIKE '%title%' FROM sessions
-- query: unpacked columns
SELECT coalesce(*COLUMNS('title|id')) FROM sessions
-- query: describe
DESCRIBE sessions
-- query: describe a query
DESCRIBE SELECT id, count(*) FROM sessions GROUP BY id
-- query: summarize
SUMMARIZE SELECT id, message_count FROM sessions
-- query: show tables
SHOW TABLES
-- query: the catalog and schema may be named
SELECT count(*) FROM podium.main.sessions, main.session_messages
-- query: quoted names, trailing comma
SELECT "s"."title", FROM "sessions" AS "s"
-- query: case, coalesce, nullif, between, distinct from
SELECT CASE WHEN status = 'idle' THEN 1 ELSE 0 END, CASE status WHEN 'idle' THEN 'a' END, coalesce(title, 'x'), nullif(title, ''), message_count BETWEEN 1 AND 5, message_count NOT BETWEEN 1 AND 2, title IS DISTINCT FROM model, title IS NOT NULL, NOT archived, -message_count, if(archived, 1, 2), ifnull(title, 'x') FROM sessions
-- query: distinct on
SELECT DISTINCT ON (provider) provider, id FROM sessions ORDER BY provider, created_at DESC
-- query: aggregates
SELECT arg_max(title, created_at), count(DISTINCT model), string_agg(title, ', ' ORDER BY created_at), approx_quantile(output_tokens, 0.5), quantile_cont(output_tokens, [0.5, 0.9]), median(output_tokens), mode(model), bool_or(archived), list(id ORDER BY id), stddev(output_tokens), histogram(status), any_value(id), approx_count_distinct(id), min(id, 2), sum(output_tokens) FILTER (status = 'idle') FROM sessions
-- query: casts
SELECT created_at::DATE, CAST(message_count AS VARCHAR), TRY_CAST(title AS INTEGER), [1]::BIGINT[], 1::DECIMAL(10, 2), '{"a": 1}'::JSON, NULL::STRUCT(a INTEGER, b VARCHAR), MAP {'a': 1}['a'], 'idle'::ENUM ('idle', 'running'), TRY(1 / 0) FROM sessions
-- query: operators
SELECT 1 // 2, 7 % 3, 2 ** 3, 5 & 3, 5 | 3, 1 << 3, 8 >> 1, ~1, 'a' || 'b', [1] || [2], @(-1), xor(1, 2), [1.0, 2.0] <=> [1.0, 2.0], [1] @> [1], [1, 2] && [2], 1 <> 2, 1 = 1 AND 2 != 3 OR false
-- query: strings
SELECT split_part(title, ' ', 1), concat_ws('-', id, title), substring(title FROM 1 FOR 3), trim(BOTH ' ' FROM title), position('a' IN title), left(title, 3), length(title), lower(title).upper(), title[1:3], format('{:>8} {}', title, 1), printf('%05d', 1), md5(title), starts_with(title, 'U'), levenshtein(title, 'x'), ascii('a'), reverse(title), E'\n', $$dollar$$ FROM sessions
-- query: collation, and order by expression
SELECT title FROM sessions ORDER BY title COLLATE NOCASE ASC, lower(model) DESC NULLS FIRST LIMIT 2 OFFSET 1
-- query: limit percent
SELECT * FROM sessions LIMIT 50%
-- query: bounded recursion
WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 100) SELECT sum(i) FROM t
-- query: recursion over parent sessions
WITH RECURSIVE tree AS (SELECT id, parent_session_id, 0 AS depth FROM sessions WHERE parent_session_id IS NULL UNION ALL SELECT s.id, s.parent_session_id, t.depth + 1 FROM sessions s JOIN tree t ON s.parent_session_id = t.id) SELECT * FROM tree
-- query: functional dependency with a star and an expression
SELECT s.*, upper(s.title), count(m.id) AS n FROM sessions s LEFT JOIN session_messages m ON m.session_id = s.id GROUP BY s.id HAVING s.message_count >= 0 ORDER BY s.created_at, n
-- query: functional dependency with unqualified columns and a position
SELECT id, title, count(*) FROM sessions GROUP BY 1 ORDER BY title
-- query: functional dependency inside a common table expression
WITH per AS (SELECT s.title, count(*) AS n FROM sessions s JOIN session_messages m ON m.session_id = s.id GROUP BY s.id) SELECT title, n FROM per ORDER BY n
-- query: a position, an ordinality, an array from a subquery
SELECT x, ordinality, array(SELECT 1) FROM unnest([3, 1, 2]) WITH ORDINALITY AS u(x, ordinality) ORDER BY #1
