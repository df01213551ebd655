{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters, so that `-headless` fits behind it. */}}
{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "gateway.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "gateway.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The Secret of the server's certificate, or nothing. */}}
{{- define "gateway.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled }}
{{- printf "%s-tls" (include "gateway.fullname" .) }}
{{- else }}
{{- .Values.tls.existingSecret }}
{{- end }}
{{- end }}

{{- define "gateway.maxReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ max 1 .Values.replicas }}{{ end }}
{{- end }}

{{/* Not empty if there is a store that the pods share. */}}
{{- define "gateway.hasStore" -}}
{{- or .Values.shared.url .Values.shared.urlSecret.name }}
{{- end }}

{{/* The ports of the servers in shared.url, as JSON. Sentinels name one with the usual port. */}}
{{- define "gateway.storePorts" -}}
{{- $hasSentinels := contains "+sentinel:" .Values.shared.url }}
{{- $ports := list }}
{{- range splitList "," (regexFind "//[^/?]*" .Values.shared.url | splitList "@" | last) }}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary 26379 6379 $hasSentinels) }}
{{- $ports = append $ports (int $port) }}
{{- end }}
{{- if $hasSentinels }}
{{- $ports = append $ports 6379 }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{/* Faults of the values of a store. */}}
{{- define "gateway.checkedStore" -}}
{{- $shared := .Values.shared }}
{{- range $name, $instead := dict "url" "shared.url or shared.urlSecret" "secret" "shared.secret" }}
{{- if hasKey ($.Values.settings.shared | default dict) $name }}
{{- fail (printf "settings.shared.%s: leave it out, and set %s instead." $name $instead) }}
{{- end }}
{{- $variable := printf "GATEWAY_SHARED__%s" (upper $name) }}
{{- range $.Values.extraEnv }}
{{- if eq .name $variable }}
{{- fail (printf "extraEnv: leave out %s, and set %s instead." $variable $instead) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $shared.url $shared.urlSecret.name }}
{{- fail "Set shared.url or shared.urlSecret.name, not both." }}
{{- end }}
{{- if regexMatch "//[^/?@]*:[^/?]*@|[?&](sentinel_)?password=" $shared.url }}
{{- fail "shared.url has a password, which anyone could read in the ConfigMap: put the address into a Secret, and set shared.urlSecret.name." }}
{{- end }}
{{- if and (include "gateway.hasStore" .) (not $shared.secret.name) }}
{{- fail "Set shared.secret.name too: the Secret with what authenticates values in the store." }}
{{- end }}
{{- if and (or $shared.secret.name $shared.tlsSecret) (not (include "gateway.hasStore" .)) }}
{{- fail "Set shared.url or shared.urlSecret.name too, or leave shared.secret.name and shared.tlsSecret out." }}
{{- end }}
{{- if and $shared.url $shared.tlsSecret (not (contains "=/etc/healthomics-gateway/store/" $shared.url)) }}
{{- fail "shared.url names no file of shared.tlsSecret: add ?ssl_ca_certs=/etc/healthomics-gateway/store/ca.crt, or ssl_certfile and ssl_keyfile." }}
{{- end }}
{{- end }}

{{/* Faults of values that the schema can't express. */}}
{{- define "gateway.checked" -}}
{{- $tls := .Values.settings.tls | default dict }}
{{- if not (or (include "gateway.tlsSecret" .) $tls.insecure $tls.cert_file) }}
{{- fail "The pods serve an address that other machines can reach: set tls.existingSecret or tls.certManager.enabled, or settings.tls.insecure=true if something else encrypts, such as a service mesh." }}
{{- end }}
{{- if and .Values.tls.certManager.enabled .Values.tls.existingSecret }}
{{- fail "Set tls.existingSecret or tls.certManager.enabled, not both." }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "Set tls.certManager.issuerRef.name too." }}
{{- end }}
{{- if and .Values.tls.clientCa.configMap .Values.tls.clientCa.secret }}
{{- fail "Set tls.clientCa.configMap or tls.clientCa.secret, not both." }}
{{- end }}
{{- range $name := list "listen" "admin_listen" }}
{{- $address := get $.Values.settings $name }}
{{- if include "gateway.isLocal" $address }}
{{- fail (printf "settings.%s %s: only the pod itself can reach it; set another address, such as 0.0.0.0:%s." $name $address (include "gateway.portOf" $address)) }}
{{- end }}
{{- end }}
{{- $ports := list (include "gateway.adminPort" . | int) }}
{{- range include "gateway.grpcPorts" . | fromJsonArray }}
{{- if has (int .port) $ports }}
{{- fail (printf "settings: two addresses have the port %d; give each of listen, admin_listen and listeners its own." (int .port)) }}
{{- end }}
{{- $ports = append $ports (int .port) }}
{{- end }}
{{- if gt (include "gateway.seconds" .Values.settings.drain_time | int) 600 }}
{{- fail "settings.drain_time: set at most 10m." }}
{{- end }}
{{- include "gateway.checkedStore" . }}
{{- range .Values.extraEnv }}
{{- if and $.Values.aws.region (has .name (list "AWS_REGION" "AWS_DEFAULT_REGION")) }}
{{- fail (printf "extraEnv: leave out %s, as aws.region sets it." .name) }}
{{- end }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas: set at most autoscaling.maxReplicas." }}
{{- end }}
{{- end }}

{{/* The port of an address such as 0.0.0.0:50051 or [::]:50051. */}}
{{- define "gateway.portOf" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{/* Not empty if only the pod itself can reach an address. */}}
{{- define "gateway.isLocal" -}}
{{- regexFind "^(unix:|127\\.|localhost:|\\[[0:]*:0*1\\])" (lower .) }}
{{- end }}

{{- define "gateway.adminPort" -}}
{{- include "gateway.portOf" .Values.settings.admin_listen }}
{{- end }}

{{/* The gRPC ports that other pods can reach: a list of `name` and `port`, as JSON. */}}
{{- define "gateway.grpcPorts" -}}
{{- $ports := list (dict "name" "grpc" "port" (include "gateway.portOf" .Values.settings.listen | int)) }}
{{- range $at, $each := .Values.settings.listeners | default list }}
{{- if not (include "gateway.isLocal" $each.address) }}
{{- $ports = append $ports (dict "name" (printf "grpc-%d" (add1 $at)) "port" (include "gateway.portOf" $each.address | int)) }}
{{- end }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{/* The seconds of a duration such as 250ms, 5s or 2m, rounded up. */}}
{{- define "gateway.seconds" -}}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit }}
{{- mulf (trimSuffix $unit . | float64) $factor | ceil | int }}
{{- end }}

{{/* What the chart adds to the settings about the quota and the store, as JSON. */}}
{{- define "gateway.sharing" -}}
{{- $pods := include "gateway.maxReplicas" . | float64 }}
{{- if include "gateway.hasStore" . }}
{{- $shared := dict "replicas" (int $pods) }}
{{- with .Values.shared.url }}
{{- $_ := set $shared "url" . }}
{{- end }}
{{- toJson (dict "quota" .Values.accountQuota "shared" $shared) }}
{{- else }}
{{- $tps := divf .Values.accountQuota.tps $pods }}
{{- $burst := max 1 (divf .Values.accountQuota.burst $pods | floor) }}
{{- toJson (dict "quota" (dict "tps" $tps "burst" $burst)) }}
{{- end }}
{{- end }}

{{/* The settings with all that the chart adds to them, as JSON. */}}
{{- define "gateway.settings" -}}
{{- $added := include "gateway.sharing" . | fromJson }}
{{- $tls := dict }}
{{- if include "gateway.tlsSecret" . }}
{{- $_ := set $tls "cert_file" "/etc/healthomics-gateway/tls/tls.crt" }}
{{- $_ := set $tls "key_file" "/etc/healthomics-gateway/tls/tls.key" }}
{{- end }}
{{- if or .Values.tls.clientCa.configMap .Values.tls.clientCa.secret }}
{{- $_ := set $tls "client_ca_file" "/etc/healthomics-gateway/client-ca/ca.crt" }}
{{- end }}
{{- if $tls }}
{{- $_ := set $added "tls" $tls }}
{{- end }}
{{- $settings := mergeOverwrite $added (deepCopy .Values.settings) }}
{{- if lt (float64 $settings.quota.tps) 0.5 }}
{{- fail (printf "accountQuota.tps: %v for each of %s pods is less than 0.5; set a larger rate or fewer pods, or let them share it (shared.url)." $settings.quota.tps (include "gateway.maxReplicas" .)) }}
{{- end }}
{{- toJson $settings }}
{{- end }}

{{/* A value as TOML. JSON's numbers, texts, booleans and lists of these are TOML too. */}}
{{- define "gateway.tomlValue" -}}
{{- if kindIs "map" . }}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $pairs = append $pairs (printf "%s = %s" (include "gateway.tomlValue" $key) (include "gateway.tomlValue" $value)) }}
{{- end }}
{{- end }}
{{- printf "{ %s }" (join ", " $pairs) }}
{{- else }}
{{- toJson . }}
{{- end }}
{{- end }}

{{/* Settings as a TOML file. Characters that TOML or YAML doesn't allow are escaped; JSON
     doesn't escape these. They can only be in texts. */}}
{{- define "gateway.toml" -}}
{{- $toml := include "gateway.tomlTables" . | trim }}
{{- range concat (untilStep 127 160 1) (list 65279 65534 65535) }}
{{- $toml = replace (printf "%c" .) (printf "\\u%04x" .) $toml }}
{{- end }}
{{- $toml }}
{{- end }}

{{/* Settings as TOML: single settings, then tables, then lists of tables. */}}
{{- define "gateway.tomlTables" -}}
{{- range $key, $value := . }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (and (kindIs "slice" $value) (kindIs "map" (first $value)))) }}
{{ $key }} = {{ include "gateway.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}

[{{ $key }}]
{{- range $inner, $each := $value }}
{{- if not (kindIs "invalid" $each) }}
{{ $inner }} = {{ include "gateway.tomlValue" $each }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $value := . }}
{{- if and (kindIs "slice" $value) (kindIs "map" (first $value)) }}
{{- range $table := $value }}

[[{{ $key }}]]
{{- range $inner, $each := $table }}
{{- if not (kindIs "invalid" $each) }}
{{ $inner }} = {{ include "gateway.tomlValue" $each }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The settings that the gateway reads only at its start, as JSON: all but those listed. */}}
{{- define "gateway.restartingSettings" -}}
{{- $settings := include "gateway.settings" . | fromJson }}
{{- range $name := list "callers" "withhold" "log.level" }}
{{- $path := splitList "." $name }}
{{- $section := $settings }}
{{- range initial $path }}
{{- $_ := set $section . (get $section . | default dict) }}
{{- $section = get $section . }}
{{- end }}
{{- $_ := unset $section (last $path) }}
{{- end }}
{{- toJson $settings }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The resources of a pod: those of a worker, times the number of workers, as JSON. */}}
{{- define "gateway.resources" -}}
{{- $workers := .Values.settings.workers | default 1 | float64 }}
{{- $pod := dict }}
{{- range $kind, $quantities := .Values.resources }}
{{- range $name, $quantity := $quantities }}
{{- $inner := get $pod $kind | default dict }}
{{- $_ := set $inner $name (include "gateway.times" (list $workers $quantity $name)) }}
{{- $_ := set $pod $kind $inner }}
{{- end }}
{{- end }}
{{- toJson $pod }}
{{- end }}

{{/* A quantity of Kubernetes, such as 250m or 1.5Gi, times a number; the third argument
     names it. */}}
{{- define "gateway.times" -}}
{{- $number := index . 0 }}
{{- $text := index . 1 | toString }}
{{- if kindIs "float64" (index . 1) }}
{{- $text = index . 1 | printf "%.3f" | trimSuffix ".000" }}
{{- end }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- $amount := trimSuffix $unit $text }}
{{- if eq $number 1.0 }}
{{- $text }}
{{- else if regexMatch "^[0-9]+([.][0-9]+)?$" $amount }}
{{- printf "%s%s" (mulf (float64 $amount) $number | printf "%.3f" | trimSuffix ".000") $unit }}
{{- else }}
{{- fail (printf "resources: write %s, %s, as a number with a unit, such as 250m or 512Mi." (index . 2) $text) }}
{{- end }}
{{- end }}

{{/* The bytes of a quantity of Kubernetes, such as 512Mi, 1.5G or 536870912. */}}
{{- define "gateway.bytes" -}}
{{- $text := . | toString }}
{{- if kindIs "float64" . }}
{{- $text = printf "%.0f" . }}
{{- end }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- $factors := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 }}
{{- $number := trimSuffix $unit $text }}
{{- if not (and (hasKey $factors $unit) (regexMatch "^[0-9]+([.][0-9]+)?$" $number)) }}
{{- fail (printf "resources.limits.memory %s: write it with one of the units k, M, G, T, Ki, Mi, Gi and Ti, such as 512Mi." $text) }}
{{- end }}
{{- printf "%.0f" (mulf (float64 $number) (get $factors $unit)) }}
{{- end }}

{{/* The alerts, with the limit of the pods' memory and the address of the run books. */}}
{{- define "gateway.rules" -}}
{{- $rules := .Files.Get "files/rules.yaml" }}
{{- with ((include "gateway.resources" . | fromJson).limits | default dict).memory }}
{{- $rules = replace "512 * 1024 * 1024" (include "gateway.bytes" .) $rules }}
{{- end }}
{{- with .Values.prometheusRule.runbookBaseUrl }}
{{- $rules = replace "runbook_url: docs/" (printf "runbook_url: %s/docs/" (trimSuffix "/" .)) $rules }}
{{- end }}
{{- $rules }}
{{- end }}
