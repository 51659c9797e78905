//! The journal's tables. A change is one more entry at the end of [`MIGRATIONS`].

use rusqlite::Connection;

use super::corrupt;

/// Each brings the schema from its index to the next number.
const MIGRATIONS: &[&str] = &[
    "
    -- The manifest that `up` was given last.
    CREATE TABLE applied (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        text    TEXT NOT NULL,
        path    TEXT NOT NULL,
        runtime TEXT NOT NULL,
        at      INTEGER NOT NULL
    ) STRICT;

    -- Every version that ever ran. The id tells apart two images that had one label.
    CREATE TABLE versions (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        service  TEXT NOT NULL,
        version  TEXT NOT NULL,
        image    TEXT NOT NULL,
        resolved TEXT NOT NULL,
        command  TEXT NOT NULL,
        env      TEXT NOT NULL,
        port     INTEGER NOT NULL,
        at       INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE services (
        name     TEXT PRIMARY KEY,
        stable   INTEGER NOT NULL REFERENCES versions,
        previous INTEGER REFERENCES versions,
        replicas INTEGER NOT NULL,
        split    TEXT NOT NULL
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

    -- One at a time.
    CREATE UNIQUE INDEX rollout_of_service ON rollouts (service) WHERE ended IS NULL;

    CREATE TABLE events (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        rollout INTEGER REFERENCES rollouts,
        service TEXT,
        at      INTEGER NOT NULL,
        kind    TEXT NOT NULL,
        text    TEXT NOT NULL,
        figures TEXT
    ) STRICT;

    CREATE INDEX event_of_rollout ON events (rollout, id);

    -- Containers that get no new requests and are stopped when the proxy says they are drained.
    CREATE TABLE retired (
        name    TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        version TEXT NOT NULL,
        address TEXT
    ) STRICT;
",
    "
    -- What a step of a rollout has behind it, so that a controller that was killed does not ask
    -- for it a second time.
    CREATE TABLE marks (
        rollout INTEGER NOT NULL REFERENCES rollouts,
        step    INTEGER NOT NULL,
        mark    TEXT NOT NULL,
        PRIMARY KEY (rollout, step, mark)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The user that requested it, if any.
    ALTER TABLE events ADD COLUMN who TEXT;
    CREATE INDEX event_of_service ON events (service, id);

    -- How far each webhook has been told.
    CREATE TABLE told (
        url   TEXT PRIMARY KEY,
        event INTEGER NOT NULL
    ) STRICT;
",
    "
    -- The readings from which the figures of a rollout's step are counted.
    CREATE TABLE windows (
        rollout INTEGER PRIMARY KEY REFERENCES rollouts,
        window  TEXT NOT NULL
    ) STRICT;
",
    "
    -- Which start of the machine the containers belong to.
    ALTER TABLE applied ADD COLUMN boot TEXT NOT NULL DEFAULT '';
",
    "
    -- How the containers of a version are made, in one piece.
    ALTER TABLE versions ADD COLUMN recipe TEXT NOT NULL DEFAULT '{}';
    UPDATE versions
        SET recipe = json_object('command', json(command), 'env', json(env), 'port', port);
    ALTER TABLE versions DROP COLUMN command;
    ALTER TABLE versions DROP COLUMN env;
    ALTER TABLE versions DROP COLUMN port;

    -- What the manifest asked for when an `up` last did it.
    ALTER TABLE services ADD COLUMN asked TEXT;

    -- Services that the manifest has no more and that run on.
    ALTER TABLE applied ADD COLUMN kept TEXT NOT NULL DEFAULT '[]';
",
    "
    -- By which name the image can be pulled again, where it can.
    ALTER TABLE versions ADD COLUMN pull_name TEXT;
",
    "
    -- The proxy that is in force, and what is to take over from it.
    CREATE TABLE proxy (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        number  INTEGER NOT NULL,
        image   TEXT,
        upgrade TEXT
    ) STRICT;
",
    "
    -- What the proxy does with the requests of a service is in one piece.
    UPDATE applied SET kept = (
        SELECT json_group_array(json_remove(
            json_set(
                value,
                '$.traffic.strip_prefix', value -> '$.strip_prefix',
                '$.traffic.health', value -> '$.health'
            ),
            '$.strip_prefix', '$.health'
        )) FROM json_each(kept)
    );
",
    "
    -- What `deploy --env` set; NULL where an older release has not written it down.
    ALTER TABLE versions ADD COLUMN by_hand TEXT;
    -- What an `up` asked for that began it.
    ALTER TABLE rollouts ADD COLUMN asked TEXT;
",
    "
    -- Why the engine publishes the proxy's ports; NULL where the controller opens its sockets.
    ALTER TABLE proxy ADD COLUMN published TEXT;
    INSERT OR IGNORE INTO proxy (one, number) SELECT 1, 0 FROM applied;
    UPDATE proxy SET published = 'it was started by an older release; `crossfade down` and then '
        || '`crossfade up` give it sockets of the host'
        WHERE EXISTS (SELECT 1 FROM applied WHERE runtime <> 'process');
",
    "
    -- What requests get while the service is under maintenance; NULL where it is not.
    ALTER TABLE services ADD COLUMN maintenance TEXT;
",
    "
    -- What the project is called, also where the manifest names none.
    ALTER TABLE applied ADD COLUMN project TEXT NOT NULL DEFAULT 'crossfade';
",
];

/// The number of the schema; an error where a newer release has written it.
pub(super) fn check_release(connection: &Connection) -> rusqlite::Result<usize> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > MIGRATIONS.len() {
        return Err(corrupt(format!(
            "a newer release wrote it (schema {found}; this release supports up to {})",
            MIGRATIONS.len()
        )));
    }
    Ok(found)
}

/// The number of this release's schema.
pub(super) fn newest() -> usize {
    MIGRATIONS.len()
}

/// Whether an older release has written it. A new one has no release yet.
pub(super) fn is_older(connection: &Connection) -> rusqlite::Result<bool> {
    Ok((1..newest()).contains(&check_release(connection)?))
}

pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found = check_release(connection)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Makes the tables of an older release.
#[cfg(test)]
pub(super) fn make_older(connection: &Connection, number: usize) {
    for migration in &MIGRATIONS[..number] {
        connection.execute_batch(migration).expect("made");
    }
    connection
        .pragma_update(None, "user_version", number)
        .expect("numbered");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::manifest::{Manifest, ServiceSettings};

    /// A journal as an older release has it.
    fn of_schema(number: usize) -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        make_older(&connection, number);
        connection
    }

    #[test]
    fn versions_of_an_older_release_keep_their_command_environment_and_port() {
        let mut connection = of_schema(5);
        connection
            .execute_batch(
                r#"INSERT INTO versions (service, version, image, resolved, command, env, port, at)
                   VALUES ('web', '1', 'web:1', 'id', '["--fast"]', '{"A":"1"}', 8081, 0)"#,
            )
            .expect("written");
        migrate(&mut connection).expect("migrated");
        let template: String = connection
            .query_row("SELECT recipe FROM versions", [], |row| row.get(0))
            .expect("read");
        let template: crate::manifest::ContainerTemplate =
            serde_json::from_str(&template).expect("a template");
        assert_eq!(
            (template.command, template.port),
            (vec!["--fast".to_owned()], 8081)
        );
        assert_eq!(template.env["A"], "1");
    }

    #[test]
    fn a_proxy_whose_ports_an_older_release_has_published_stays_so() {
        for (runtime, is_published) in [("podman", true), ("process", false)] {
            let mut connection = of_schema(10);
            let insert =
                "INSERT INTO applied (one, text, path, runtime, at) VALUES (1, '', '', ?, 0)";
            connection.execute(insert, [runtime]).expect("written");
            migrate(&mut connection).expect("migrated");
            let published: Option<String> = connection
                .query_row("SELECT published FROM proxy", [], |row| row.get(0))
                .expect("read");
            assert_eq!(
                published.is_some(),
                is_published,
                "{runtime}: {published:?}"
            );
        }
    }

    #[test]
    fn services_that_an_older_release_has_kept_keep_their_settings() {
        let text = "[[services]]\nname = \"web\"\nimage = \"web:1\"\nstrip_prefix = true\n\
                    health = { path = \"/healthz\" }\nsticky = { cookie = \"seat\" }\n\
                    [[services]]\nname = \"api\"\nimage = \"api:1\"\npath_prefix = \"/api\"\n";
        let services = Manifest::parse(text).expect("a manifest").services;
        let mut older = serde_json::to_value(&services).expect("JSON");
        for service in older.as_array_mut().expect("a list") {
            // Absent keys were written, too.
            for (key, absent) in [("strip_prefix", false.into()), ("health", Value::Null)] {
                let traffic = service["traffic"].as_object_mut().expect("settings");
                service[key] = traffic.remove(key).unwrap_or(absent);
            }
        }
        let mut connection = of_schema(8);
        connection
            .execute(
                "INSERT INTO applied (one, text, path, runtime, at, kept)
                 VALUES (1, '', '', 'process', 0, ?)",
                [older.to_string()],
            )
            .expect("written");
        migrate(&mut connection).expect("migrated");
        let kept: String = connection
            .query_row("SELECT kept FROM applied", [], |row| row.get(0))
            .expect("read");
        let kept: Vec<ServiceSettings> = serde_json::from_str(&kept).expect("services");
        assert_eq!(kept, services);
        assert!(kept[0].traffic.strip_prefix && kept[0].traffic.health.is_some());
    }
}
