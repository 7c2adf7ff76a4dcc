#!/usr/bin/env bash
# Makes, once in an account, what cluster/aws.yaml names, in the default VPC of its region, and prints what to put there:
#
#   bash cluster/aws_account.sh      # needs the AWS CLI and the rights to make roles, groups, file systems and registries
#
# Two instance profiles (delia-head may do everything in EC2, and so may each job that it runs; delia-worker may pull the image), a
# security group that admits SSH from this machine's address alone, an EFS file system with a mount target in each zone, and a registry
# on ECR. Each is printed as it is made: where the script stops, remove those before you start it again. AWS_REGION is the region, which
# has to be that of aws.yaml. The file system and the registry cost money until they are deleted, also after `ray down`:
# `aws efs delete-mount-target` and `delete-file-system`, `aws ecr delete-repository --force`.
set -euo pipefail
export AWS_PAGER= AWS_REGION=${AWS_REGION:-us-east-1}
echo "region:           $AWS_REGION"
account=$(aws sts get-caller-identity --query Account --output text)
vpc=$(aws ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId' --output text)
address=$(curl --silent --fail https://checkip.amazonaws.com)

trust='{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}'
start_workers='{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": "*"},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::'$account':role/delia-worker"}]}'
for role in delia-head delia-worker; do
    aws iam create-role --role-name "$role" --assume-role-policy-document "$trust" >/dev/null
    aws iam attach-role-policy --role-name "$role" --policy-arn arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly
    aws iam create-instance-profile --instance-profile-name "$role" >/dev/null
    aws iam add-role-to-instance-profile --instance-profile-name "$role" --role-name "$role"
done
echo "roles and instance profiles: delia-head, delia-worker"
aws iam attach-role-policy --role-name delia-head --policy-arn arn:aws:iam::aws:policy/AmazonEC2FullAccess
aws iam put-role-policy --role-name delia-head --policy-name start-workers --policy-document "$start_workers"

group=$(aws ec2 create-security-group --group-name delia --description "nodes of delia" --vpc-id "$vpc" --query GroupId --output text)
echo "SecurityGroupIds: [$group]"
aws ec2 authorize-security-group-ingress --group-id "$group" --protocol all --source-group "$group" >/dev/null
aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 22 --cidr "$address/32" >/dev/null

files=$(aws efs create-file-system --encrypted --tags Key=Name,Value=delia --query FileSystemId --output text)
echo "file system:      $files"
until [ "$(aws efs describe-file-systems --file-system-id "$files" --query 'FileSystems[0].LifeCycleState' --output text)" = available ]; do
    sleep 2
done
# One subnet a zone, which may have several and takes one mount target.
for subnet in $(aws ec2 describe-subnets --filters "Name=vpc-id,Values=$vpc" --query 'Subnets[].[AvailabilityZone, SubnetId]' --output text |
    sort --unique --key=1,1 | awk '{print $2}'); do
    aws efs create-mount-target --file-system-id "$files" --subnet-id "$subnet" --security-groups "$group" >/dev/null
done

registry=$(aws ecr create-repository --repository-name delia-ray --query repository.repositoryUri --output text)
echo "REGISTRY:         ${registry%/delia-ray}"
