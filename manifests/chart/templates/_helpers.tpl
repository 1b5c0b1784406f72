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
sync: {name: CREDLET_ASSOCIATION_SOURCES, value: "{{ if .Values.associations }}file,{{ end }}crd,annotation"}
{{- end -}}

{{/* What all of this release's pods have: the image, and news of changed settings. */}}
{{- define "credlet.pod" -}}
{{- $root := .root -}}
{{- $template := .template -}}
{{- $container := first $template.spec.containers -}}
{{- $_ := set $container "image" (include "credlet.image" $root) -}}
{{- $_ = set $container "imagePullPolicy" $root.Values.image.pullPolicy -}}
{{- with $root.Values.image.pullSecrets -}}
{{- $_ = set $template.spec "imagePullSecrets" . -}}
{{- end -}}
{{- $settings := dict "credlet.dev/settings" (include "credlet.settings" $root | sha256sum) -}}
{{- $_ = set $template.metadata "annotations" (merge $settings .annotations) -}}
{{- end -}}

{{/* A component's Deployment. */}}
{{- define "credlet.deployment" -}}
{{- $_ := include "credlet.pod" (dict "root" .root "template" .object.spec.template "annotations" dict) -}}
{{- $container := first .object.spec.template.spec.containers -}}
{{- $_ = set .object.spec "replicas" .values.replicas -}}
{{- $_ = set $container "resources" .values.resources -}}
{{- if and (eq .object.metadata.name "credlet-sync") .root.Values.components.syncAck -}}
{{- $_ = set $container "env" (append $container.env (dict "name" "CREDLET_SYNC_SOURCE" "value" "ack")) -}}
{{- end -}}
{{- toYaml .object -}}
{{- end -}}

{{/* A mutating policy or its binding, with what the policies begin with: a map in CEL. */}}
{{- define "credlet.mutatingPolicy" -}}
{{- $values := .root.Values.mutatingPolicy -}}
{{- $v1 := .root.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
{{- $_ := set .object "apiVersion" ($values.apiVersion | default (ternary "admissionregistration.k8s.io/v1" "admissionregistration.k8s.io/v1beta1" $v1)) -}}
{{- range .object.spec.variables -}}
{{- if eq .name "settings" -}}
{{- $_ := set . "expression" (include "credlet.mutatingPolicy.settings" $.root) -}}
{{- end -}}
{{- end -}}
{{- toYaml .object -}}
{{- end -}}

{{- define "credlet.mutatingPolicy.settings" -}}
{{- $policy := .Values.mutatingPolicy -}}
{'annotated': '{{ $policy.annotated }}',
'audience': 'pods.eks.amazonaws.com',
'endpoints': '{{ $policy.endpoints }}',
'exchange': '{{ .Values.settings.CREDLET_EXCHANGE | default "assume-role" }}',
'prefix': 'eks.amazonaws.com',
'region': '{{ .Values.region }}',
'tokenExpiration': '{{ int64 $policy.tokenExpiration }}',
'uri': 'http://169.254.170.23/v1/credentials',
'webIdentityAudience': 'sts.amazonaws.com'}
{{ end -}}
