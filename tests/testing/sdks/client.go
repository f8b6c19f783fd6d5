// Use the local service through the AWS SDK for Go v2, and print what it answers as JSON.
// Arguments: the endpoint and a time between the two jobs' starts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/comprehendmedical"
	"github.com/aws/aws-sdk-go-v2/service/comprehendmedical/types"
	"github.com/aws/smithy-go"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func main() {
	ctx := context.Background()
	client := comprehendmedical.New(comprehendmedical.Options{
		Region:           "us-east-1",
		Credentials:      credentials.NewStaticCredentialsProvider("testing", "testing", ""),
		EndpointResolver: comprehendmedical.EndpointResolverFromURL(os.Args[1]),
	})
	start := comprehendmedical.StartPHIDetectionJobInput{
		InputDataConfig:   &types.InputDataConfig{S3Bucket: aws.String("bucket"), S3Key: aws.String("notes")},
		OutputDataConfig:  &types.OutputDataConfig{S3Bucket: aws.String("bucket"), S3Key: aws.String("results")},
		DataAccessRoleArn: aws.String("arn:aws:iam::123456789012:role/reads-notes"),
		LanguageCode:      types.LanguageCodeEn,
	}
	named := start
	named.JobName, named.ClientRequestToken = aws.String("nightly"), aws.String("token")
	first, err := client.StartPHIDetectionJob(ctx, &named)
	check(err)
	again, err := client.StartPHIDetectionJob(ctx, &named)
	check(err)
	second, err := client.StartPHIDetectionJob(ctx, &start)
	check(err)
	described, err := client.DescribePHIDetectionJob(ctx, &comprehendmedical.DescribePHIDetectionJobInput{JobId: first.JobId})
	check(err)
	properties := described.ComprehendMedicalAsyncJobProperties
	between, err := time.Parse(time.RFC3339, os.Args[2])
	check(err)
	listed, err := client.ListPHIDetectionJobs(ctx, &comprehendmedical.ListPHIDetectionJobsInput{
		Filter: &types.ComprehendMedicalAsyncJobFilter{SubmitTimeBefore: &between},
	})
	check(err)
	ids := []string{}
	for _, job := range listed.ComprehendMedicalAsyncJobPropertiesList {
		ids = append(ids, *job.JobId)
	}
	stopped, err := client.StopPHIDetectionJob(ctx, &comprehendmedical.StopPHIDetectionJobInput{JobId: second.JobId})
	check(err)
	detected, err := client.DetectPHI(ctx, &comprehendmedical.DetectPHIInput{Text: aws.String("Zo\u00eb \U0001f642 is Patient: Ada Example")})
	check(err)
	entities := [][]any{}
	for _, entity := range detected.Entities {
		entities = append(entities, []any{entity.Type, *entity.BeginOffset, *entity.EndOffset, *entity.Text})
	}
	unknown := comprehendmedical.DescribePHIDetectionJobInput{JobId: aws.String(strings.Repeat("0", 32))}
	_, missing := client.DescribePHIDetectionJob(ctx, &unknown)
	invalid := start
	invalid.LanguageCode = "de"
	_, refused := client.StartPHIDetectionJob(ctx, &invalid)
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"first":     first.JobId,
		"again":     again.JobId,
		"second":    second.JobId,
		"name":      properties.JobName,
		"status":    properties.JobStatus,
		"submitted": properties.SubmitTime.UTC().Format("2006-01-02T15:04:05.000Z"),
		"listed":    ids,
		"stopped":   stopped.JobId,
		"detected":  entities,
		"missing":   code(missing),
		"refused":   code(refused),
	}))
}
