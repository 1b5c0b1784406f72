{{/* A manifest of kustomize's, for this release's namespace: files/ links to them. */}}
{{- define "credlet.manifest" -}}
{{- $text := .root.Files.Get .file | required (printf "%s is missing" .file) -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $text
  | replace "namespace: credlet" (printf "namespace: %s" $namespace)
  | replace "system:serviceaccount:credlet:" (printf "system:serviceaccount:%s:" $namespace)
  | replace "credlet.dev/agent-not-ready" .root.Values.agent.startupTaint -}}
{{- end -}}

{{- define "credlet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The agents' environment that is the same for all of them. */}}
{{- define "credlet.settings" -}}
{{- $own := dict "CREDLET_CLUSTER_NAME" .Values.clusterName "AWS_REGION" .Values.region -}}
{{- range $name, $value := merge (deepCopy .Values.settings) $own }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* What a component sets in the agents' environment. */}}
{{- define "credlet.components" -}}
requestTokens: {name: CREDLET_REQUEST_TOKENS, value: "true"}
associationStatus: {name: CREDLET_ASSOCIATION_STATUS, value: "on"}
imds: {name: CREDLET_IMDS, value: node}
startupTaint: {name: CREDLET_STARTUP_TAINT, value: {{ .Values.agent.startupTaint }}}
{{- end -}}
