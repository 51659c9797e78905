-- A journal as release 0.1.0 of November 2026 writes it: a rollout at its second step.
PRAGMA foreign_keys = OFF;
PRAGMA user_version = 8;
BEGIN TRANSACTION;
CREATE TABLE applied (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        text    TEXT NOT NULL,
        path    TEXT NOT NULL,
        runtime TEXT NOT NULL,
        at      INTEGER NOT NULL
    , boot TEXT NOT NULL DEFAULT '', kept TEXT NOT NULL DEFAULT '[]') STRICT;
INSERT INTO "applied" VALUES(1,'project = "shop"
runtime = "process"

[proxy]
listen = ["127.0.0.1:18580"]
admin_port = 18590

[[services]]
name = "web"
image = "/usr/local/bin/crossfade-sample-server"
version = "1.0.0"
replicas = 2
protocol = "http/1.1"
env = { GREETING = "hello" }

[services.health]
path = "/healthz"
','/srv/shop/crossfade.toml','"process"',1795916809350,'5bf16123-e42d-4a01-906a-cb50726c140f','[]');
CREATE TABLE events (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        rollout INTEGER REFERENCES rollouts,
        service TEXT,
        at      INTEGER NOT NULL,
        kind    TEXT NOT NULL,
        text    TEXT NOT NULL,
        figures TEXT
    , who TEXT) STRICT;
INSERT INTO "events" VALUES(1,NULL,'web',1795916809801,'up','up with 1.0.0 × 2',NULL,'root');
INSERT INTO "events" VALUES(2,1,'web',1795916809862,'began','rollout 1 (web 1.0.0 → 2.0.0): steps=10:gate,100',NULL,'root');
INSERT INTO "events" VALUES(3,1,'web',1795916809916,'checking','1 of 2.0.0 started; the proxy has to see them healthy for 5s',NULL,NULL);
INSERT INTO "events" VALUES(4,1,'web',1795916815383,'shifting','step 1 of 2: 10% to 2.0.0 on 1 container',NULL,NULL);
INSERT INTO "events" VALUES(5,1,'web',1795916845690,'paused','paused: at a gate: `crossfade resume` lets it through',NULL,NULL);
INSERT INTO "events" VALUES(6,1,'web',1795916848662,'split','split set by hand: 80% 1.0.0, 20% 2.0.0; paused',NULL,'root');
INSERT INTO "events" VALUES(7,1,'web',1795916849766,'resumed','goes on',NULL,'root');
INSERT INTO "events" VALUES(8,1,'web',1795916850041,'shifting','step 2 of 2: 100% to 2.0.0 on 2 containers (at 10% 0 of 1 requests failed)','{"candidate":{"failures":0,"latency":{"answers":0,"over_limit":0,"p99_us":null,"slow":0},"tries":1},"elapsed_ms":255,"evidence":{"fails_more_than_allowed":1.0,"fails_more_than_stable":1.0,"fails_now":1.0,"slower_than_allowed":1.0,"slower_than_stable":1.0},"limits":{"latency_p99_ms":500,"latency_tolerance":1.0,"min_requests":50,"step_min_duration_ms":30000,"success_rate":99.0,"success_rate_tolerance":0.1},"recent":{"candidate":{"failures":0,"latency":{"answers":0,"over_limit":0,"p99_us":null,"slow":0},"tries":1},"stable":{"failures":0,"latency":{"answers":0,"over_limit":0,"p99_us":null,"slow":0},"tries":9}},"record":{"failures":0,"latency":{"answers":1022,"over_limit":0,"p99_us":8192,"slow":5},"tries":1022},"slow_ms":8.192,"stable":{"failures":0,"latency":{"answers":0,"over_limit":0,"p99_us":null,"slow":0},"tries":9}}',NULL);
CREATE TABLE marks (
        rollout INTEGER NOT NULL REFERENCES rollouts,
        step    INTEGER NOT NULL,
        mark    TEXT NOT NULL,
        PRIMARY KEY (rollout, step, mark)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "marks" VALUES(1,0,'"agreed"');
INSERT INTO "marks" VALUES(1,0,'"at-gate"');
INSERT INTO "marks" VALUES(1,0,'"watched"');
CREATE TABLE proxy (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        number  INTEGER NOT NULL,
        image   TEXT,
        upgrade TEXT
    ) STRICT;
CREATE TABLE retired (
        name    TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        version TEXT NOT NULL,
        address TEXT
    ) STRICT;
CREATE TABLE rollouts (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        service      TEXT NOT NULL,
        from_version INTEGER NOT NULL REFERENCES versions,
        to_version   INTEGER NOT NULL REFERENCES versions,
        settings     TEXT NOT NULL,
        steps        TEXT NOT NULL,
        phase        TEXT NOT NULL,
        step         INTEGER NOT NULL,
        paused       TEXT,
        hand_split   TEXT,
        why          TEXT,
        created      INTEGER NOT NULL,
        phase_since  INTEGER NOT NULL,
        ended        INTEGER
    ) STRICT;
INSERT INTO "rollouts" VALUES(1,'web',1,2,'{"strategy":{"steps":["10:gate",100]},"look_every":"250ms","step_min_duration":"30s","min_requests":50,"max_hold":"10m","after_max_hold":"pause","success_rate":99.0,"success_rate_tolerance":0.1,"latency_p99":"500ms","latency_tolerance":1.0,"warm_up":"10s","bake":"5m","min_healthy_time":"5s","start_timeout":"1m","hooks":[]}','[{"share":10,"replicas":1,"gate":true},{"share":100,"replicas":2}]','shifting',1,NULL,NULL,NULL,1795916809862,1795916850041,NULL);
CREATE TABLE services (
        name     TEXT PRIMARY KEY,
        stable   INTEGER NOT NULL REFERENCES versions,
        previous INTEGER REFERENCES versions,
        replicas INTEGER NOT NULL,
        split    TEXT NOT NULL
    , asked TEXT) STRICT;
INSERT INTO "services" VALUES('web',1,NULL,2,'{"1.0.0":0,"2.0.0":100}','{"image":"/usr/local/bin/crossfade-sample-server","version":"1.0.0","replicas":2,"recipe":{"command":[],"env":{"GREETING":"hello"},"port":8080,"secrets":{},"volumes":[],"limits":{"memory":null,"millicpus":null,"pids":null},"labels":{},"reach":{}}}');
CREATE TABLE told (
        url   TEXT PRIMARY KEY,
        event INTEGER NOT NULL
    ) STRICT;
CREATE TABLE versions (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        service  TEXT NOT NULL,
        version  TEXT NOT NULL,
        image    TEXT NOT NULL,
        resolved TEXT NOT NULL,
        at       INTEGER NOT NULL
    , recipe TEXT NOT NULL DEFAULT '{}', pull_name TEXT) STRICT;
INSERT INTO "versions" VALUES(1,'web','1.0.0','/usr/local/bin/crossfade-sample-server','/usr/local/bin/crossfade-sample-server',1795916809389,'{"command":[],"env":{"GREETING":"hello"},"port":8080,"secrets":{},"volumes":[],"limits":{"memory":null,"millicpus":null,"pids":null},"labels":{},"reach":{}}',NULL);
INSERT INTO "versions" VALUES(2,'web','2.0.0','/usr/local/bin/crossfade-sample-server','/usr/local/bin/crossfade-sample-server',1795916809862,'{"command":[],"env":{"GREETING":"hello"},"port":8080,"secrets":{},"volumes":[],"limits":{"memory":null,"millicpus":null,"pids":null},"labels":{},"reach":{"protocol":"h2"}}',NULL);
CREATE TABLE windows (
        rollout INTEGER PRIMARY KEY REFERENCES rollouts,
        window  TEXT NOT NULL
    ) STRICT;
INSERT INTO "windows" VALUES(1,'{"opened":{"candidate":{"in_flight":0,"streams":0,"upgraded":0,"responses":{"1xx":0,"2xx":119,"3xx":0,"4xx":0,"5xx":0},"failed_tries":{"connect":0,"reset":0,"timeout":0,"protocol":0,"body":0},"client_gone":0,"diverted":0,"panicked":0,"latency":[{"le":0.000208,"count":1},{"le":0.000224,"count":1},{"le":0.000256,"count":1},{"le":0.000288,"count":6},{"le":0.00032,"count":13},{"le":0.000352,"count":13},{"le":0.000384,"count":8},{"le":0.000416,"count":16},{"le":0.000448,"count":20},{"le":0.00048,"count":5},{"le":0.000512,"count":8},{"le":0.000576,"count":13},{"le":0.00064,"count":1},{"le":0.000832,"count":2},{"le":0.000896,"count":1},{"le":0.002048,"count":1},{"le":0.002816,"count":1},{"le":0.003072,"count":1},{"le":0.003584,"count":1},{"le":0.00384,"count":1},{"le":0.004096,"count":1},{"le":0.00512,"count":1},{"le":0.006144,"count":1},{"le":0.008192,"count":1},{"le":0.009216,"count":1}]},"stable":{"in_flight":0,"streams":0,"upgraded":0,"responses":{"1xx":0,"2xx":1049,"3xx":0,"4xx":0,"5xx":0},"failed_tries":{"connect":0,"reset":0,"timeout":0,"protocol":0,"body":0},"client_gone":0,"diverted":0,"panicked":0,"latency":[{"le":0.000176,"count":1},{"le":0.000192,"count":1},{"le":0.000208,"count":2},{"le":0.000224,"count":3},{"le":0.00024,"count":5},{"le":0.000256,"count":8},{"le":0.000288,"count":24},{"le":0.00032,"count":54},{"le":0.000352,"count":95},{"le":0.000384,"count":108},{"le":0.000416,"count":168},{"le":0.000448,"count":113},{"le":0.00048,"count":95},{"le":0.000512,"count":86},{"le":0.000576,"count":70},{"le":0.00064,"count":24},{"le":0.000704,"count":13},{"le":0.000768,"count":3},{"le":0.000832,"count":5},{"le":0.000896,"count":4},{"le":0.001152,"count":4},{"le":0.00128,"count":4},{"le":0.001408,"count":2},{"le":0.001536,"count":2},{"le":0.001664,"count":9},{"le":0.001792,"count":3},{"le":0.00192,"count":8},{"le":0.002048,"count":6},{"le":0.002304,"count":8},{"le":0.00256,"count":6},{"le":0.002816,"count":8},{"le":0.003072,"count":5},{"le":0.003328,"count":3},{"le":0.003584,"count":8},{"le":0.00384,"count":15},{"le":0.004096,"count":18},{"le":0.004608,"count":24},{"le":0.00512,"count":7},{"le":0.005632,"count":7},{"le":0.006144,"count":2},{"le":0.006656,"count":2},{"le":0.007168,"count":2},{"le":0.00768,"count":2},{"le":0.008192,"count":6},{"le":0.009216,"count":3},{"le":0.036864,"count":1},{"le":0.04096,"count":1},{"le":0.045056,"count":1}]}},"warm":null}');
CREATE UNIQUE INDEX rollout_of_service ON rollouts (service) WHERE ended IS NULL;
CREATE INDEX event_of_rollout ON events (rollout, id);
CREATE INDEX event_of_service ON events (service, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('versions',2);
INSERT INTO "sqlite_sequence" VALUES('events',8);
INSERT INTO "sqlite_sequence" VALUES('rollouts',1);
COMMIT;
