-- Slow tables: what the network is, under which rules decisions are made, and who may ask. Few writes, no cell.

-- Law 8: an edition is an immutable state of network, catalogue and rates. Its parts are shared between editions.
CREATE TABLE edition_part (
    hash text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE edition (
    hash text COLLATE "C" PRIMARY KEY,
    -- Hashes of its parts, in the order in which they are put together.
    parts text[] NOT NULL,
    made_at timestamptz NOT NULL,
    made_by text NOT NULL
);

-- The newest accepted row of every kind of master data, from which the next edition is built.
CREATE TABLE master (
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body jsonb NOT NULL,
    -- The sender's order of statements about this key; an older one is ignored.
    sequence bigint,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
);

-- Law 10: a decision names exactly one of these rows, and the rule content of a row never changes.
CREATE TABLE policy_version (
    code text COLLATE "C" NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    family text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('draft', 'simulated', 'approved', 'active', 'retired')),
    body jsonb NOT NULL,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL,
    active_from timestamptz,
    PRIMARY KEY (code, version)
);

-- One version of a family is active at a time.
CREATE UNIQUE INDEX policy_version_active ON policy_version (family, code) WHERE state = 'active';

-- A token's secret is kept as a hash; `party` is the sender that idempotency is scoped by (law 5).
CREATE TABLE token (
    id uuid PRIMARY KEY,
    party text NOT NULL,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'integrator', 'admin')),
    secret_hash bytea NOT NULL UNIQUE,
    made_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE setting (
    name text COLLATE "C" PRIMARY KEY,
    value jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL
);
