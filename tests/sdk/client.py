# A program in a pod: boto3 finds its credentials and says whose they are.
import boto3

print(boto3.client("sts").get_caller_identity()["Arn"])
