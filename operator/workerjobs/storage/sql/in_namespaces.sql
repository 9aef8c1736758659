(%(namespaces)s::text[] is null or pending.namespace = any(%(namespaces)s::text[]))
