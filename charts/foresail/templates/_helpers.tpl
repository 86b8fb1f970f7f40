{{- define "foresail.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{- define "foresail.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "foresail.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "foresail.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "foresail.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "foresail.fullname" .) -}}
{{- end -}}

{{- define "foresail.selectorLabels" -}}
app.kubernetes.io/name: {{ include "foresail.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "foresail.labels" -}}
{{ include "foresail.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The reference of an image: takes the values of one image and the chart's context. */}}
{{- define "foresail.image" -}}
{{- $image := index . 0 -}}
{{- $root := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do, and nothing else. In particular it can read no Secret: pods mount those that pools name. */}}
{{- define "foresail.rules" -}}
- apiGroups: [foresail.dev]
  resources: [modelpools, routingpolicies]
  verbs: [list, watch]
- apiGroups: [foresail.dev]
  resources: [modelpools/status, routingpolicies/status]
  verbs: [patch]
# The children of a policy, in the policy's namespace. Garbage collection deletes them.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
