{{- define "workerjobs.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What all names begin with; short enough for the longest ending. */}}
{{- define "workerjobs.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "workerjobs.name" .) .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "workerjobs.name" .) | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.selector" -}}
app.kubernetes.io/name: {{ include "workerjobs.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object. Takes root, component and optionally labels. */}}
{{- define "workerjobs.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "workerjobs.selector" . }}
app.kubernetes.io/part-of: workerjobs
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with merge (dict) (default (dict) .labels) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without what changes with every release, which would replace them. Takes root, component and
     optionally labels. */}}
{{- define "workerjobs.podLabels" -}}
{{ include "workerjobs.selector" . }}
app.kubernetes.io/part-of: workerjobs
{{- with merge (dict) (default (dict) .labels) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of pods: those given win. /tmp goes with the pod, but the cluster-autoscaler would keep the node for it.
     Takes given and ours. */}}
{{- define "workerjobs.podAnnotations" -}}
{{- toYaml (merge (dict) .given .ours (dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" "tmp")) -}}
{{- end -}}

{{/* name, namespace, labels and annotations. Takes root, component, name, and optionally namespace (false for what has
     none) and annotations. */}}
{{- define "workerjobs.metadata" -}}
name: {{ .name }}
{{- if not (eq (toString .namespace) "false") }}
namespace: {{ default .root.Release.Namespace .namespace | quote }}
{{- end }}
labels:
  {{- include "workerjobs.labels" . | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pods of all pools: the operator gives them these labels. */}}
{{- define "workerjobs.workerSelector" -}}
app.kubernetes.io/name: workerjobs
app.kubernetes.io/component: worker
{{- end -}}

{{- define "workerjobs.operatorName" -}}
{{ include "workerjobs.fullname" . }}-operator
{{- end -}}

{{- define "workerjobs.workerName" -}}
{{ include "workerjobs.fullname" . }}-worker
{{- end -}}

{{- define "workerjobs.serverName" -}}
{{ include "workerjobs.fullname" . }}-server
{{- end -}}

{{- define "workerjobs.postgresName" -}}
{{ include "workerjobs.fullname" . }}-postgres
{{- end -}}

{{- define "workerjobs.operatorServiceAccount" -}}
{{- with .Values.operator.serviceAccount -}}
{{- if .create -}}{{ default (include "workerjobs.operatorName" $) .name }}{{- else -}}{{ default "default" .name }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.workerServiceAccount" -}}
{{- with .Values.pool.serviceAccount -}}
{{- if .create -}}{{ default (include "workerjobs.workerName" $) .name }}{{- else -}}{{ default "default" .name }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.serverServiceAccount" -}}
{{- with .Values.server.serviceAccount -}}
{{- if .create -}}{{ default (include "workerjobs.serverName" $) .name }}{{- else -}}{{ default "default" .name }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.serverSecret" -}}
{{- default (include "workerjobs.serverName" .) .Values.server.existingSecret -}}
{{- end -}}

{{/* The path below which the Ingress offers the server; a pattern is none. */}}
{{- define "workerjobs.serverPathPrefix" -}}
{{- with .Values.server.ingress -}}
{{- if and .enabled (ne .pathType "ImplementationSpecific") -}}{{- trimSuffix "/" .path -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.databaseSecret" -}}
{{- default (printf "%s-database" (include "workerjobs.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{- define "workerjobs.backlogSecret" -}}
{{- default (printf "%s-backlog" (include "workerjobs.fullname" .)) .Values.backlog.existingSecret -}}
{{- end -}}

{{- define "workerjobs.jobFilesName" -}}
{{ include "workerjobs.fullname" . }}-jobs
{{- end -}}

{{/* An image as one string. Takes a map with repository, tag and digest. */}}
{{- define "workerjobs.image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{- define "workerjobs.ownImage" -}}
{{- with .Values.image -}}
{{- include "workerjobs.image" (dict "repository" .repository "tag" (default $.Chart.AppVersion .tag) "digest" .digest) -}}
{{- end -}}
{{- end -}}

{{/* The default pool's, where it has one of its own; a digest is never another image's. */}}
{{- define "workerjobs.workerImage" -}}
{{- with .Values.pool.image -}}
{{- if or .repository .tag .digest -}}
{{- include "workerjobs.image" (dict "repository" (default $.Values.image.repository .repository) "tag" (default $.Chart.AppVersion (default $.Values.image.tag .tag)) "digest" .digest) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "workerjobs.databaseEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "workerjobs.databaseSecret" . }}
      key: {{ if .Values.database.existingSecret }}{{ .Values.database.urlKey }}{{ else }}url{{ end }}
{{- if and .Values.database.existingSecret .Values.database.directUrlKey }}
- name: DATABASE_DIRECT_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "workerjobs.databaseSecret" . }}
      key: {{ .Values.database.directUrlKey }}
{{- end }}
- name: DATABASE_WAIT_SECONDS
  value: {{ .Values.database.waitSeconds | int | quote }}
{{- end -}}

{{/* What tells a pod who it is. */}}
{{- define "workerjobs.podEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
{{- end -}}

{{/* How many probes of two seconds may fail before a pod that waits for its database is taken for dead. */}}
{{- define "workerjobs.startupFailures" -}}
{{- div (add (int .Values.database.waitSeconds) 60) 2 -}}
{{- end -}}

{{- define "workerjobs.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 5
# While it waits for the database nothing answers yet.
startupProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 2
  failureThreshold: {{ include "workerjobs.startupFailures" . }}
{{- end -}}

{{/* Constraints, with a labelSelector where they lack one. Takes constraints and labels (text). */}}
{{- define "workerjobs.spread" -}}
{{- $given := list -}}
{{- range .constraints -}}
{{- $given = append $given (merge (dict) . (dict "labelSelector" (dict "matchLabels" (fromYaml $.labels)))) -}}
{{- end -}}
{{- toYaml $given -}}
{{- end -}}

{{/* Namespaces that the operator serves: those given and the release's own; none means all. */}}
{{- define "workerjobs.namespaces" -}}
{{- with .Values.namespaces -}}
{{- join "," (append . $.Release.Namespace | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
