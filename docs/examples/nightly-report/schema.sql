create table orders (
    id bigint generated always as identity primary key,
    product text not null,
    count integer not null,
    price numeric(10, 2) not null,
    ordered_at timestamptz not null default now()
);
create index on orders (ordered_at);

create table sales_reports (
    day date not null,
    product text not null,
    sold bigint not null,
    revenue numeric(12, 2) not null,
    primary key (day, product)
);
