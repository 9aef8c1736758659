-- QuickDapp's other tables, in the shape that its own migrations give them, where they are not there yet.
create table if not exists settings (
    id serial primary key,
    key text not null constraint settings_key_unique unique,
    value text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table if not exists users (
    id serial primary key,
    disabled boolean not null default false,
    settings json,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table if not exists user_auth (
    id serial primary key,
    user_id integer not null constraint user_auth_user_id_users_id_fk references users on delete cascade,
    auth_type text not null,
    auth_identifier text not null constraint user_auth_auth_identifier_unique unique,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index if not exists user_auth_type_identifier_idx on user_auth (auth_type, auth_identifier);

create table if not exists notifications (
    id serial primary key,
    user_id integer not null constraint notifications_user_id_users_id_fk references users,
    data json not null,
    read boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
-- Not of QuickDapp: who comes back to listen is looked for by user.
create index if not exists notifications_user_id_idx on notifications (user_id);
