-- What must not work, each with what stops it: `refused: <part of the reason>` (the gate), `failed: <kind>`, `memory`, `time`.
-- `{snapshot}` and `{live}` stand for the paths of the copy and of the live file; `{secret}` for the hidden text.
-- attack: copy as a common table expression over the open file
-- stopped by: refused: COPY_QUERY_NODE
WITH x AS (COPY (SELECT 1) TO '{snapshot}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1
-- attack: copy over the live file
-- stopped by: refused: COPY_QUERY_NODE
WITH x AS (COPY (SELECT 1) TO '{live}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM x
-- attack: copy deep inside a subquery
-- stopped by: refused: COPY_QUERY_NODE
SELECT (SELECT count(*) FROM (WITH x AS (COPY (SELECT 1) TO '{snapshot}') SELECT 1)) FROM sessions
-- attack: insert as a common table expression
-- stopped by: refused: INSERT_QUERY_NODE
WITH x AS (INSERT INTO core.secrets VALUES ('x') RETURNING *) SELECT * FROM x
-- attack: delete as a common table expression
-- stopped by: refused: DELETE_QUERY_NODE
WITH x AS (DELETE FROM core.secrets RETURNING *) SELECT * FROM x
-- attack: update as a common table expression
-- stopped by: refused: UPDATE_QUERY_NODE
WITH x AS (UPDATE core.secrets SET token = 'x' RETURNING *) SELECT * FROM x
-- attack: plain copy
-- stopped by: refused: not a SELECT
COPY sessions TO '/tmp/stolen.csv'
-- attack: two statements
-- stopped by: refused: 2 statements
SELECT 1; SELECT 2
-- attack: a select, then a drop
-- stopped by: refused: not a SELECT
SELECT 1; DROP VIEW sessions
-- attack: nothing
-- stopped by: refused: 0 statements
;
-- attack: attach
-- stopped by: refused: not a SELECT
ATTACH '{live}' AS live
-- attack: setting
-- stopped by: refused: not a SELECT
SET lock_configuration = false
-- attack: pragma
-- stopped by: refused: not a SELECT
PRAGMA database_list
-- attack: call
-- stopped by: refused: not a SELECT
CALL pragma_version()
-- attack: install an extension
-- stopped by: refused: not a SELECT
INSTALL httpfs
-- attack: explain analyze
-- stopped by: refused: not a SELECT
EXPLAIN ANALYZE SELECT * FROM core.secrets
-- attack: prepare and execute
-- stopped by: refused: not a SELECT
PREPARE x AS SELECT * FROM core.secrets
-- attack: hidden table by schema
-- stopped by: refused: core.secrets
SELECT * FROM core.secrets
-- attack: hidden table by catalog
-- stopped by: refused: podium.core.secrets
SELECT * FROM podium.core.secrets
-- attack: hidden table, quoted
-- stopped by: refused: core.secrets
SELECT * FROM "core"."secrets"
-- attack: hidden table in a subquery of HAVING
-- stopped by: refused: core.secrets
SELECT provider FROM sessions GROUP BY ALL HAVING count(*) > (SELECT count(*) FROM core.secrets)
-- attack: hidden table in ORDER BY
-- stopped by: refused: core.secrets
SELECT id FROM sessions ORDER BY (SELECT token FROM core.secrets)
-- attack: hidden table in LIMIT
-- stopped by: refused: core.secrets
SELECT id FROM sessions LIMIT (SELECT count(*) FROM core.secrets)
-- attack: hidden table in a join condition
-- stopped by: refused: core.secrets
SELECT * FROM sessions a JOIN sessions b ON a.id = (SELECT token FROM core.secrets)
-- attack: hidden table in a lambda
-- stopped by: refused: core.secrets
SELECT list_transform([1], lambda x: (SELECT token FROM core.secrets))
-- attack: hidden table in a window
-- stopped by: refused: core.secrets
SELECT row_number() OVER (ORDER BY (SELECT token FROM core.secrets)) FROM sessions
-- attack: hidden table in a filter
-- stopped by: refused: core.secrets
SELECT count(*) FILTER (WHERE EXISTS (FROM core.secrets)) FROM sessions
-- attack: hidden table in VALUES
-- stopped by: refused: core.secrets
VALUES ((SELECT token FROM core.secrets))
-- attack: hidden table in REPLACE
-- stopped by: refused: core.secrets
SELECT * REPLACE ((SELECT token FROM core.secrets) AS title) FROM sessions
-- attack: hidden table in PIVOT
-- stopped by: refused: core.secrets
SELECT * FROM (PIVOT core.secrets ON token IN ('x') USING count(*))
-- attack: hidden table by DESCRIBE
-- stopped by: refused: core.secrets
DESCRIBE core.secrets
-- attack: hidden table by SUMMARIZE
-- stopped by: refused: core.secrets
SUMMARIZE core.secrets
-- attack: hidden table by TABLE
-- stopped by: refused: core.secrets
TABLE core.secrets
-- attack: hidden table as an argument of a table function
-- stopped by: refused: core.secrets
SELECT * FROM unnest((SELECT list(token) FROM core.secrets))
-- attack: hidden table in a cast to enum
-- stopped by: refused:
SELECT 'a'::ENUM (SELECT token FROM core.secrets)
-- attack: hidden table behind a name of one's own
-- stopped by: refused: core.secrets
WITH sessions AS (SELECT * FROM core.secrets) SELECT * FROM sessions
-- attack: hidden table by time travel
-- stopped by: refused:
SELECT * FROM sessions AT (VERSION => 1)
-- attack: catalog views
-- stopped by: refused: duckdb_tables
SELECT * FROM duckdb_tables
-- attack: catalog functions
-- stopped by: refused: duckdb_views
SELECT sql FROM duckdb_views()
-- attack: information schema
-- stopped by: refused: information_schema
SELECT * FROM information_schema.tables
-- attack: sqlite master
-- stopped by: refused: sqlite_master
SELECT sql FROM sqlite_master
-- attack: a name made visible in another branch
-- stopped by: refused: duckdb_
SELECT * FROM duckdb_tables, (WITH duckdb_tables AS (SELECT 1) SELECT 1)
-- attack: a name that is defined later
-- stopped by: refused: later
WITH a AS (SELECT * FROM later), later AS (SELECT 1) SELECT * FROM a
-- attack: a name that is defined later, seen from the second entry
-- stopped by: refused: later
WITH a AS (SELECT 1), b AS (SELECT * FROM later), later AS (SELECT 1) SELECT * FROM b
-- attack: a name that reads itself without recursion
-- stopped by: refused: secrets
WITH secrets AS (SELECT * FROM secrets) SELECT * FROM secrets
-- attack: the anchor of a recursion reads the name
-- stopped by: refused: secrets
WITH RECURSIVE secrets AS (SELECT token FROM secrets UNION ALL SELECT token FROM secrets) SELECT * FROM secrets
-- attack: all tables
-- stopped by: refused: SHOW
SHOW ALL TABLES
-- attack: databases with their paths
-- stopped by: refused: SHOW
SHOW DATABASES
-- attack: read its own file as bytes
-- stopped by: refused: read_blob
SELECT content FROM read_blob('{snapshot}')
-- attack: read the live file as bytes
-- stopped by: refused: read_blob
SELECT content FROM read_blob('{live}')
-- attack: read text
-- stopped by: refused: read_text
SELECT * FROM read_text('/etc/passwd')
-- attack: read csv by its name
-- stopped by: refused: /etc/passwd
SELECT * FROM '/etc/passwd'
-- attack: read a file that looks like a table
-- stopped by: refused: x.parquet
FROM 'x.parquet'
-- attack: list files
-- stopped by: refused: glob
SELECT * FROM glob('/*')
-- attack: another database's tables
-- stopped by: refused: read_duckdb
SELECT * FROM read_duckdb('{live}', table_name = 'secrets')
-- attack: sql in a string
-- stopped by: refused: query
SELECT * FROM query('SELECT * FROM core.secrets')
-- attack: table in a string
-- stopped by: refused: query_table
SELECT * FROM query_table('core.secrets')
-- attack: sql in a tree
-- stopped by: refused: json_execute_serialized_sql
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM core.secrets'))
-- attack: sql as a plan
-- stopped by: refused: json_serialize_plan
SELECT json_serialize_plan('SELECT * FROM core.secrets')
-- attack: the text of a view
-- stopped by: refused: pg_get_viewdef
SELECT pg_get_viewdef(1)
-- attack: storage
-- stopped by: refused: pragma_storage_info
SELECT * FROM pragma_storage_info('core.secrets')
-- attack: settings
-- stopped by: refused: current_setting
SELECT current_setting('home_directory')
-- attack: the environment
-- stopped by: refused: getenv
SELECT getenv('PATH')
-- attack: secrets of the process
-- stopped by: refused: duckdb_secrets
SELECT * FROM duckdb_secrets()
-- attack: the log of the process
-- stopped by: refused: write_log
SELECT write_log('x')
-- attack: a function by schema
-- stopped by: refused: read_blob
SELECT * FROM system.main.read_blob('{snapshot}')
-- attack: a function as a method
-- stopped by: refused: getenv
SELECT 'PATH'.getenv()
-- attack: a forbidden function inside an allowed one
-- stopped by: refused: current_setting
SELECT list_transform([1], lambda x: upper(current_setting('threads')))
-- attack: a forbidden function in a window
-- stopped by: refused: write_log
SELECT write_log('x') OVER () FROM sessions
-- attack: waiting
-- stopped by: refused: sleep_ms
SELECT sleep_ms(100000)
-- attack: waiting, postgres style
-- stopped by: refused: pg_sleep
SELECT pg_sleep(100)
-- attack: python variables
-- stopped by: refused: snapshot
SELECT * FROM snapshot
-- attack: user type that runs
-- stopped by: refused: regclass
SELECT 'core.secrets'::regclass
-- attack: repeat bomb
-- stopped by: refused: repeat
SELECT repeat('x', 2000000000)
-- attack: repeat bomb in a method
-- stopped by: refused: repeat
SELECT 'x'.repeat(2000000000)
-- attack: repeat bomb in disguise
-- stopped by: refused: repeat
SELECT repeat('x', 2 * 1000000000)
-- attack: repeat bomb from data
-- stopped by: refused: repeat
SELECT repeat('x', input_tokens * 100000) FROM sessions
-- attack: repeat bomb, nested
-- stopped by: refused: nested
SELECT repeat(repeat(repeat('x', 10000), 10000), 10000)
-- attack: repeat bomb by a parameterless cast
-- stopped by: refused: repeat
SELECT repeat('x', '2000000000'::BIGINT)
-- attack: padding bomb
-- stopped by: refused: lpad
SELECT lpad('x', 2000000000, 'y')
-- attack: list bomb
-- stopped by: refused: range
SELECT range(2000000000)
-- attack: series bomb
-- stopped by: refused: generate_series
SELECT generate_series(0, 1000000000)
-- attack: resize bomb
-- stopped by: refused: list_resize
SELECT list_resize([1], 2000000000)
-- attack: bits bomb
-- stopped by: refused: bitstring
SELECT bitstring('1', 2000000000)
-- attack: format bomb
-- stopped by: refused: format
SELECT format('{:2000000000}', 1)
-- attack: format bomb with the width as an argument
-- stopped by: refused: format
SELECT format('{:{}}', 1, 2000000000)
-- attack: printf bomb
-- stopped by: refused: printf
SELECT printf('%2000000000d', 1)
-- attack: printf bomb with the width as an argument
-- stopped by: refused: printf
SELECT printf('%*d', 2000000000, 1)
-- attack: bar bomb
-- stopped by: refused: bar
SELECT bar(1, 0, 1, 2000000000)
-- attack: array type bomb
-- stopped by: refused: array type
SELECT NULL::INTEGER[10000][10000]
-- attack: sampling aggregate bomb
-- stopped by: refused: reservoir_quantile
SELECT reservoir_quantile(output_tokens, 0.5, 2000000000) FROM sessions
-- attack: a very deep expression
-- stopped by: refused: nested too deeply
SELECT {deep}
-- attack: deeper than the parser goes
-- stopped by: refused:
SELECT {deeper}
-- attack: a very long statement
-- stopped by: refused: characters
SELECT '{long}'
-- attack: a keyed recursion
-- stopped by: refused: key_targets
WITH RECURSIVE t(a, b) USING KEY (a) AS (SELECT 1, 2 UNION ALL SELECT a + 1, b FROM t) SELECT * FROM t
-- attack: memory by a doubling join
-- stopped by: memory
SELECT string_agg(a.content || b.content || c.content, '') FROM session_messages a, session_messages b, session_messages c, range(100000)
-- attack: memory by a doubling recursion
-- stopped by: memory
WITH RECURSIVE t(i, s) AS (SELECT 1, 'xxxxxxxxxxxxxxxx' UNION ALL SELECT i + 1, s || s FROM t WHERE i < 60) SELECT max(length(s)) FROM t
-- attack: memory by repeats over one another's answers
-- stopped by: memory
WITH a AS MATERIALIZED (SELECT repeat('x', 10000) AS s), b AS MATERIALIZED (SELECT repeat(s, 10000) AS s FROM a) SELECT length(repeat(s, 10000)) FROM b
-- attack: memory by lists in a lambda
-- stopped by: memory
SELECT list_transform(range(1000000), lambda x: repeat('x', 10000))
-- attack: memory by a list of a huge table
-- stopped by: memory
SELECT list(i) FROM range(1000000000000) t(i)
-- attack: memory by a sort
-- stopped by: memory
SELECT i FROM (SELECT i, md5(i::VARCHAR) m FROM range(50000000) t(i)) ORDER BY m DESC, i
-- attack: time by a cross join
-- stopped by: time
SELECT count(*) FROM range(1000000) a(i), range(1000000) b(j), range(1000) c WHERE hash(i + j) = 7
-- attack: time by a recursion without an end
-- stopped by: time
WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT 1 FROM t) SELECT count(*) FROM t
-- attack: time by a regular expression over everything
-- stopped by: time
SELECT count(*) FROM range(100000000) t(i) WHERE regexp_matches(repeat(i::VARCHAR, 100), '(a+)+(b+)+c$')
-- attack: time by a reduction inside one row
-- stopped by: time
SELECT list_sum(list_transform(range(1000000), lambda x: list_sum(list_transform(range(100000), lambda y: y * x))))
